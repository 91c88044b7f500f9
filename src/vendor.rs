//! Vendors: manifests, and the adapter that runs them.
