//! The identity of this host, read when the daemon starts or is reloaded. Owns the source of each fact.

mod builtin;

use std::net::UdpSocket;

use anyhow::{Context as _, Result, anyhow};

use crate::config::Settings;
use crate::model::format::Format;
use crate::model::machine::Machine;
use crate::model::name::MachineId;

/// The host as it presents itself to the cluster.
///
/// # Errors
/// The host has no machine id; without one, hosts can't be distinguished.
pub(super) fn machine(settings: &Settings) -> Result<Machine> {
    Ok(Machine {
        id: id()?,
        ip: settings.public_ip.clone().or_else(address).unwrap_or_default(),
        hostname: first_line("/proc/sys/kernel/hostname").unwrap_or_default(),
        metadata: settings.metadata.clone(),
        builtin: builtin::of_this_host(),
        reserved: settings.reserved,
        version: env!("CARGO_PKG_VERSION").into(),
        boot_id: first_line("/proc/sys/kernel/random/boot_id").unwrap_or_default(),
        since: 0, // set by the agent when it registers
        format: Format::CURRENT,
        leaving: false,
    })
}

fn id() -> Result<MachineId> {
    const FILE: &str = "/etc/machine-id";
    let hint = "make one with `systemd-machine-id-setup`";
    let text = first_line(FILE).with_context(|| format!("this host has no machine id ({FILE}); {hint}"))?;
    text.parse().map_err(|error| anyhow!("{FILE}: {error}; {hint}"))
}

fn first_line(path: &str) -> std::io::Result<String> {
    Ok(std::fs::read_to_string(path)?.lines().next().unwrap_or_default().trim().to_owned())
}

/// The address of the interface of the default route. Connecting a datagram socket sends nothing; it only asks the
/// kernel which address it would use. 192.0.2.1 is reserved for documentation (RFC 5737) and is thus never a neighbour.
fn address() -> Option<String> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    let ip = socket.local_addr().ok()?.ip();
    (!ip.is_unspecified() && !ip.is_loopback()).then(|| ip.to_string())
}
