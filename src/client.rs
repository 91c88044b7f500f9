//! What prims and agents link.
