//! `scuro vault enroll | revoke | devices`

use std::path::PathBuf;

use scuro_vault::devices::{Bundle, Enrolment, PeerRecord, PeerRole};
use scuro_wire::Name;
use scuro_wire::tls::{AUTHORITY_FILE, CERTIFICATE_FILE, KEY_FILE};
use serde_json::{Value, json};

use super::{Place, open};
use crate::context::Context;
use crate::errors::Failure;
use crate::files::{self, Access, Overwrite};
use crate::output::Reply;
use crate::table::Table;

/// File in a bundle that names the device and its vault.
const DEVICE_FILE: &str = "device.json";

/// Arguments of `scuro vault enroll`.
#[derive(Debug, clap::Args)]
pub(crate) struct EnrollArguments {
    /// Name for the certificate: lower-case letters, digits, hyphens.
    name: Name,
    #[command(flatten)]
    place: Place,
    /// Folder for the certificate, its private key and the authority's certificate.
    #[arg(long, short, value_name = "DIR")]
    out: PathBuf,
    /// A user who reads results, not a device.
    #[arg(long, conflicts_with = "address")]
    user: bool,
    /// Where the device will listen for deployments.
    #[arg(long, value_name = "HOST:PORT")]
    address: Option<String>,
    /// Where it will find the vault; written into the bundle.
    #[arg(long, default_value = "127.0.0.1:8470", value_name = "HOST:PORT")]
    vault_address: String,
    /// Life of the certificate.
    #[arg(long, default_value_t = 365, value_parser = clap::value_parser!(u64).range(1..=3650))]
    days: u64,
}

/// Issues a certificate and writes the bundle.
pub(crate) fn enroll(arguments: &EnrollArguments, context: &Context) -> Result<Reply, Failure> {
    let vault = open(&arguments.place)?;
    let known = vault.peer(&arguments.name).is_ok();
    let enrolment = Enrolment {
        name: arguments.name.clone(),
        role: match arguments.user {
            true => PeerRole::User,
            false => PeerRole::Device,
        },
        days: arguments.days,
        address: arguments.address.clone(),
    };
    // Before the registry changes: a bundle that cannot be written must not replace a good one.
    files::check_writable(&arguments.out.join(KEY_FILE))?;
    let bundle = vault.enrol(&enrolment, scuro_vault::now())?;
    write(arguments, &bundle)?;
    if known {
        context.note("the certificate that this name had before is worthless now");
    }
    let record = &bundle.record;
    let human = format!(
        "enrolled {} as {}; the bundle is in {}: bring it there over a trusted way\n",
        record.name,
        record.role.as_str(),
        arguments.out.display()
    );
    Ok(Reply::new(person(record), human))
}

fn write(arguments: &EnrollArguments, bundle: &Bundle) -> Result<(), Failure> {
    let device = json!({ "name": arguments.name.as_str(), "vault": arguments.vault_address });
    let device = format!("{device:#}\n");
    let contents: [(&str, &[u8], Access); 4] = [
        (AUTHORITY_FILE, &bundle.authority_pem, Access::Shared),
        (
            CERTIFICATE_FILE,
            bundle.certificate_pem.as_bytes(),
            Access::Shared,
        ),
        (KEY_FILE, bundle.key_pem.as_bytes(), Access::Secret),
        (DEVICE_FILE, device.as_bytes(), Access::Shared),
    ];
    for (name, bytes, access) in contents {
        files::write_with(&arguments.out.join(name), bytes, Overwrite::Allow, access)?;
    }
    Ok(())
}

/// Takes a certificate back.
pub(crate) fn revoke(name: &Name, place: &Place) -> Result<Reply, Failure> {
    open(place)?.revoke(name)?;
    let data = json!({ "name": name.as_str(), "state": "revoked" });
    Ok(Reply::new(data, format!("revoked {name}\n")))
}

/// Lists devices, users and deployments.
pub(crate) fn devices(place: &Place, context: &Context) -> Result<Reply, Failure> {
    let vault = open(place)?;
    let (peers, deployments) = (vault.peers()?, vault.deployments()?);
    let mut table = Table::new(&["name", "role", "state", "address", "model", "expires"]);
    let mut rows = Vec::new();
    for peer in &peers {
        let mine = deployments.iter().filter(|row| row.device == peer.name);
        let models: Vec<Value> = mine
            .clone()
            .map(|row| json!({ "model": row.model, "state": row.state, "changed": row.changed }))
            .collect();
        let active = mine.clone().find(|row| row.state == "active");
        table.row([
            peer.name.to_string(),
            peer.role.as_str().to_string(),
            state(peer).to_string(),
            peer.address.clone().unwrap_or_default(),
            active.map_or(String::new(), |row| row.model.clone()),
            super::manage::in_days(peer.expires),
        ]);
        let mut row = person(peer);
        row["deployments"] = models.into();
        rows.push(row);
    }
    let human = table.render(context.style);
    Ok(Reply::new(json!({ "peers": rows }), human).with_rows(rows))
}

fn person(record: &PeerRecord) -> Value {
    json!({
        "name": record.name.as_str(), "role": record.role.as_str(), "state": state(record),
        "fingerprint": record.fingerprint.to_string(), "address": record.address,
        "enrolled": record.enrolled, "expires": record.expires,
    })
}

fn state(record: &PeerRecord) -> &'static str {
    match record.revoked {
        true => "revoked",
        false if record.expires < scuro_vault::now() => "expired",
        false => "active",
    }
}
