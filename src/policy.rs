//! Provisioning policies: parsed with exact positions, decided, explained.
