//! The program behind `cargo run`. See the library's description.
#![forbid(unsafe_code)]

fn main() {
    let code = runner::commands::main();
    runner::cleanup::exit(code)
}
