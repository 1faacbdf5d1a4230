//! The `mailark` program.

fn main() -> std::process::ExitCode {
    mailark::cli::main()
}
