//! Builds again when a manifest or a migration is added: what is embedded is known to cargo only once it was there.

fn main() {
    println!("cargo::rerun-if-changed=migrations");
    println!("cargo::rerun-if-changed=vendors");
}
