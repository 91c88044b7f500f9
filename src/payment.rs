//! Payment over x402: quotes, local checks, rails.
