//! The vault: key hierarchy, sealing and opening, and the MACs of control rows.
