//! Tokens: biscuits minted, checked, narrowed and explained.
