//! `scuro deploy NAME[:VERSION] --device D`, `scuro deploy rollback --device D`

use scuro_vault::Vault;
use scuro_vault::deploy::DeployReport;
use scuro_wire::{ModelReference, Name};
use serde_json::json;

use crate::context::Context;
use crate::errors::Failure;
use crate::output::Reply;
use crate::progress::Progress;
use crate::verbs::vault::{self, Place};
use crate::{logging, services, units};

/// What stands in the place of a model to go back; a model of this name needs its version.
const ROLLBACK: &str = "rollback";

/// Arguments of `scuro deploy`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Model (without a version, the newest that is active), or `rollback` to go back to the
    /// deployment before.
    #[arg(value_name = "NAME[:VERSION]|rollback")]
    model: ModelReference,
    #[command(flatten)]
    target: Target,
}

/// Which device, from which vault.
#[derive(Debug, clap::Args)]
struct Target {
    /// Device; it must be enrolled.
    #[arg(long)]
    device: Name,
    /// Where it listens, if not where it was enrolled for.
    #[arg(long, value_name = "HOST:PORT")]
    address: Option<String>,
    #[command(flatten)]
    place: Place,
}

/// Deploys or rolls back.
pub(crate) fn run(arguments: Arguments, context: &Context) -> Result<Reply, Failure> {
    let Arguments { model, target } = arguments;
    if context.verbose > 0 {
        logging::start(context);
    }
    if model.to_string() == ROLLBACK {
        return roll_back(&target);
    }
    let vault = vault::open(&target.place)?;
    let report = deploy(&vault, &model, &target, context)?;
    let rate = report.bytes_sent as f64 / report.took.as_secs_f64().max(1e-9);
    let data = json!({
        "model": report.model, "device": target.device.as_str(),
        "deployment": report.deployment.to_string(), "bytes": report.bytes,
        "bytes_sent": report.bytes_sent, "milliseconds": report.took.as_secs_f64() * 1e3,
    });
    let human = format!(
        "{} runs on {}: {} sent of {} in {} ({}/s)\n",
        report.model,
        target.device,
        units::bytes(report.bytes_sent),
        units::bytes(report.bytes),
        units::duration(report.took),
        units::bytes(rate as u64)
    );
    Ok(Reply::new(data, human))
}

fn deploy(
    vault: &Vault,
    model: &ModelReference,
    target: &Target,
    context: &Context,
) -> Result<DeployReport, Failure> {
    const MIB: u64 = 1 << 20;
    let total = vault.model(model)?.manifest.bytes().div_ceil(MIB);
    let progress = Progress::bar(context, "deploying, MiB", total as usize);
    let (device, address) = (&target.device, target.address.as_deref());
    let now = scuro_vault::now();
    let shown = |bytes: u64| progress.at((bytes / MIB) as usize);
    let deployed = vault.deploy(model, device, address, now, shown);
    Ok(services::runtime()?.block_on(deployed)?)
}

fn roll_back(target: &Target) -> Result<Reply, Failure> {
    let vault = vault::open(&target.place)?;
    let (device, address) = (&target.device, target.address.as_deref());
    let back = vault.roll_back(device, address, scuro_vault::now());
    let status = services::runtime()?.block_on(back)?;
    let model = format!("{}:{}", status.name, status.version);
    let data = json!({
        "model": model, "device": device.as_str(), "deployment": status.deployment.to_string(),
    });
    Ok(Reply::new(
        data,
        format!("{model} runs on {device} again\n"),
    ))
}
