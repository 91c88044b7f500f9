//! Builds again when a manifest is added: what `include_dir` reads is known to cargo only once it was there.

fn main() {
    println!("cargo::rerun-if-changed=vendors");
}
