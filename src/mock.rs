//! A mock vendor made from a manifest.
