//! `make simulate`: whole jobs against a model of the service; see `src/simulation/`.

/// The allocator of the wheel.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    replyio::simulation::main(std::env::args().skip(1))
}
