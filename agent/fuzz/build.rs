//! The types of the Container Runtime Interface, as the agent has them.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=../proto/cri.proto");
    let interface = protox::compile(["../proto/cri.proto"], ["../proto"])?;
    tonic_prost_build::configure().build_client(false).build_server(false).compile_fds(interface)?;
    Ok(())
}
