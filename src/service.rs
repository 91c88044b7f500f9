//! The verbs: the only place that joins the store and the engines.
