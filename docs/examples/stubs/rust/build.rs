fn main() -> Result<(), Box<dyn std::error::Error>> {
    let protos = "../../../../protos";
    println!("cargo:rerun-if-changed={protos}");
    let contract = protox::compile(["session_authority/v1/session_authority.proto"], [protos])?;
    tonic_prost_build::configure()
        .build_server(false)
        .compile_fds(contract)?;
    Ok(())
}
