//! Rotations, through HTTP, against a vendor that keeps the truth: nobody who sends requests notices one, and no key is
//! left behind, whatever the vendor does.

mod load;
mod root;
mod scene;
mod shared;
mod values;
