//! `make simulate`: whole jobs against a model of the service; see `src/simulation/`.

fn main() -> std::process::ExitCode {
    replyio::simulation::main(std::env::args().skip(1))
}
