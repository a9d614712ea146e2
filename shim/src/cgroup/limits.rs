//! Which file of a cgroup gets which value.

use super::Controller;
use crate::spec::{Cpu, Memory, Pids, Resources};

/// One value for one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Setting {
    /// In whose folder.
    pub(super) controller: Controller,
    /// The file's name.
    pub(super) file: String,
    /// What is written.
    pub(super) value: String,
    /// Whether the container starts without it: what some kernels lack.
    pub(super) optional: bool,
}

impl Setting {
    /// A setting without which the container does not start.
    pub(super) fn new(controller: Controller, file: &str, value: impl ToString) -> Self {
        Self { controller, file: file.to_owned(), value: value.to_string(), optional: false }
    }

    fn optional(controller: Controller, file: &str, value: impl ToString) -> Self {
        Self { optional: true, ..Self::new(controller, file, value) }
    }
}

/// The settings of version 1.
pub(super) fn v1(resources: &Resources) -> Vec<Setting> {
    let Resources { memory, cpu, pids, unified: _ } = resources;
    let Memory { limit, reservation, swap } = memory;
    let Cpu { shares, quota, period, cpus, mems } = cpu;
    let (c, m, s) = (Controller::Cpu, Controller::Memory, Controller::Cpuset);
    // Memory alone may never exceed memory and swap, in between neither: without order by direction, the limit is
    // lifted before both are set.
    let lift = swap.filter(|_| limit.is_some()).map(|_| Setting::optional(m, "memory.memsw.limit_in_bytes", -1));
    let settings = [
        lift,
        limit.map(|bytes| Setting::new(m, "memory.limit_in_bytes", bytes)),
        swap.map(|bytes| Setting::optional(m, "memory.memsw.limit_in_bytes", bytes)),
        reservation.map(|bytes| Setting::optional(m, "memory.soft_limit_in_bytes", bytes)),
        shares.filter(|shares| *shares > 0).map(|shares| Setting::new(c, "cpu.shares", shares)),
        period.filter(|period| *period > 0).map(|period| Setting::new(c, "cpu.cfs_period_us", period)),
        quota.filter(|quota| *quota != 0).map(|quota| Setting::new(c, "cpu.cfs_quota_us", quota)),
        Some(cpus).filter(|cpus| !cpus.is_empty()).map(|cpus| Setting::new(s, "cpuset.cpus", cpus)),
        Some(mems).filter(|mems| !mems.is_empty()).map(|mems| Setting::new(s, "cpuset.mems", mems)),
        pids_max(pids),
    ];
    settings.into_iter().flatten().collect()
}

/// The settings of version 2.
pub(super) fn v2(resources: &Resources) -> Vec<Setting> {
    let Resources { memory, cpu, pids, unified } = resources;
    let Memory { limit, reservation, swap } = memory;
    let Cpu { shares, quota, period, cpus, mems } = cpu;
    let (c, m, s) = (Controller::Cpu, Controller::Memory, Controller::Cpuset);
    let settings = [
        limit.map(|bytes| Setting::new(m, "memory.max", or_max(bytes))),
        swap_alone(*swap, *limit).map(|bytes| Setting::optional(m, "memory.swap.max", or_max(bytes))),
        reservation.map(|bytes| Setting::optional(m, "memory.low", or_max(bytes))),
        shares.filter(|shares| *shares > 0).map(|shares| Setting::new(c, "cpu.weight", weight(shares))),
        cpu_max(*quota, *period).map(|value| Setting::new(c, "cpu.max", value)),
        Some(cpus).filter(|cpus| !cpus.is_empty()).map(|cpus| Setting::new(s, "cpuset.cpus", cpus)),
        Some(mems).filter(|mems| !mems.is_empty()).map(|mems| Setting::new(s, "cpuset.mems", mems)),
        pids_max(pids),
    ];
    // All controllers are files of one folder in version 2, so which one is named makes no difference.
    let unified =
        unified.iter().filter(|(file, _)| !file.contains('/')).map(|(file, value)| Setting::new(m, file, value));
    settings.into_iter().flatten().chain(unified).collect()
}

fn pids_max(pids: &Pids) -> Option<Setting> {
    (pids.limit != 0).then(|| Setting::new(Controller::Pids, "pids.max", or_max(pids.limit)))
}

fn or_max(value: i64) -> String {
    if value < 0 { "max".to_owned() } else { value.to_string() }
}

/// Version 2 limits swap alone; the specification has memory and swap together.
pub(super) fn swap_alone(swap: Option<i64>, memory: Option<i64>) -> Option<i64> {
    match (swap?, memory) {
        (swap, _) if swap < 0 => Some(-1),
        (swap, Some(memory)) if memory >= 0 => Some((swap - memory).max(0)),
        _ => None,
    }
}

fn cpu_max(quota: Option<i64>, period: Option<u64>) -> Option<String> {
    if quota.is_none_or(|quota| quota == 0) && period.is_none_or(|period| period == 0) {
        return None;
    }
    let period = period.filter(|period| *period > 0).unwrap_or(100_000);
    Some(format!("{} {period}", quota.filter(|quota| *quota > 0).map_or("max".to_owned(), |quota| quota.to_string())))
}

/// From shares (2 to 262144) to weight (1 to 10000), as the Kubernetes enhancement 2254 has it.
pub(super) fn weight(shares: u64) -> u64 {
    1 + (shares.clamp(2, 262_144) - 2) * 9999 / 262_142
}

#[cfg(test)]
mod tests;
