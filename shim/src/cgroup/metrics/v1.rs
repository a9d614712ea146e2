//! Version 1 and hybrid hosts.

use containerd_shim_protos::cgroups::metrics::{
    CPUStat, CPUUsage, MemoryEntry, MemoryOomControl, MemoryStat, Metrics, PidsStat, Throttle,
};
use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::protobuf::{Message, MessageField};

use super::super::Controller;
use super::{Flat, number};

/// Nanoseconds per tick of `cpuacct.stat`: the kernel's USER_HZ is 100 on every architecture that Kubernetes runs on.
const TICK: u64 = 10_000_000;

/// The message, from a function that reads a controller's file (empty if there is none).
pub(in super::super) fn metrics(read: impl Fn(Controller, &str) -> String) -> Any {
    let metrics = Metrics {
        pids: MessageField::some(PidsStat {
            current: number(&read(Controller::Pids, "pids.current")),
            limit: Some(number(&read(Controller::Pids, "pids.max"))).filter(|max| *max != u64::MAX).unwrap_or(0),
            ..PidsStat::default()
        }),
        cpu: MessageField::some(cpu(&read)),
        memory: MessageField::some(memory(&read)),
        memory_oom_control: MessageField::some(oom(&read(Controller::Memory, "memory.oom_control"))),
        ..Metrics::default()
    };
    Any {
        type_url: "io.containerd.cgroups.v1.Metrics".to_owned(),
        value: metrics.write_to_bytes().unwrap_or_default(),
        ..Any::default()
    }
}

fn cpu(read: &impl Fn(Controller, &str) -> String) -> CPUStat {
    let (ticks, throttling) = (read(Controller::Cpuacct, "cpuacct.stat"), read(Controller::Cpu, "cpu.stat"));
    let (ticks, throttling) = (Flat::parse(&ticks), Flat::parse(&throttling));
    let per_cpu = read(Controller::Cpuacct, "cpuacct.usage_percpu");
    CPUStat {
        usage: MessageField::some(CPUUsage {
            total: number(&read(Controller::Cpuacct, "cpuacct.usage")),
            kernel: ticks.get("system") * TICK,
            user: ticks.get("user") * TICK,
            per_cpu: per_cpu.split_whitespace().map(number).collect(),
            ..CPUUsage::default()
        }),
        throttling: MessageField::some(Throttle {
            periods: throttling.get("nr_periods"),
            throttled_periods: throttling.get("nr_throttled"),
            throttled_time: throttling.get("throttled_time"),
            ..Throttle::default()
        }),
        ..CPUStat::default()
    }
}

fn memory(read: &impl Fn(Controller, &str) -> String) -> MemoryStat {
    let text = read(Controller::Memory, "memory.stat");
    let stat = Flat::parse(&text);
    MemoryStat {
        usage: entry(read, "memory"),
        swap: entry(read, "memory.memsw"),
        kernel: entry(read, "memory.kmem"),
        ..memory_stat(&stat)
    }
}

fn entry(read: &impl Fn(Controller, &str) -> String, prefix: &str) -> MessageField<MemoryEntry> {
    let value = |suffix: &str| number(&read(Controller::Memory, &format!("{prefix}.{suffix}")));
    MessageField::some(MemoryEntry {
        limit: value("limit_in_bytes"),
        usage: value("usage_in_bytes"),
        max: value("max_usage_in_bytes"),
        failcnt: value("failcnt"),
        ..MemoryEntry::default()
    })
}

fn memory_stat(stat: &Flat<'_>) -> MemoryStat {
    MemoryStat {
        cache: stat.get("cache"),
        rss: stat.get("rss"),
        rss_huge: stat.get("rss_huge"),
        mapped_file: stat.get("mapped_file"),
        dirty: stat.get("dirty"),
        writeback: stat.get("writeback"),
        pg_pg_in: stat.get("pgpgin"),
        pg_pg_out: stat.get("pgpgout"),
        pg_fault: stat.get("pgfault"),
        pg_maj_fault: stat.get("pgmajfault"),
        inactive_anon: stat.get("inactive_anon"),
        active_anon: stat.get("active_anon"),
        inactive_file: stat.get("inactive_file"),
        active_file: stat.get("active_file"),
        unevictable: stat.get("unevictable"),
        hierarchical_memory_limit: stat.get("hierarchical_memory_limit"),
        hierarchical_swap_limit: stat.get("hierarchical_memsw_limit"),
        total_cache: stat.get("total_cache"),
        total_rss: stat.get("total_rss"),
        total_rss_huge: stat.get("total_rss_huge"),
        total_mapped_file: stat.get("total_mapped_file"),
        total_dirty: stat.get("total_dirty"),
        total_writeback: stat.get("total_writeback"),
        total_pg_pg_in: stat.get("total_pgpgin"),
        total_pg_pg_out: stat.get("total_pgpgout"),
        total_pg_fault: stat.get("total_pgfault"),
        total_pg_maj_fault: stat.get("total_pgmajfault"),
        total_inactive_anon: stat.get("total_inactive_anon"),
        total_active_anon: stat.get("total_active_anon"),
        total_inactive_file: stat.get("total_inactive_file"),
        total_active_file: stat.get("total_active_file"),
        total_unevictable: stat.get("total_unevictable"),
        ..MemoryStat::default()
    }
}

fn oom(text: &str) -> MemoryOomControl {
    let control = Flat::parse(text);
    MemoryOomControl {
        oom_kill_disable: control.get("oom_kill_disable"),
        under_oom: control.get("under_oom"),
        oom_kill: control.get("oom_kill"),
        ..MemoryOomControl::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_become_containerds_message_of_version_1() {
        let any = metrics(|_, file| {
            match file {
                "cpuacct.usage" => "5000\n",
                "cpuacct.stat" => "user 2\nsystem 1\n",
                "memory.usage_in_bytes" => "4096\n",
                "memory.limit_in_bytes" => "8192\n",
                "memory.stat" => "rss 1024\ntotal_inactive_file 512\n",
                "pids.current" => "1\n",
                "pids.max" => "max\n",
                _ => "",
            }
            .to_owned()
        });
        assert_eq!(any.type_url, "io.containerd.cgroups.v1.Metrics");
        let read = Metrics::parse_from_bytes(&any.value).unwrap();
        assert_eq!((read.cpu.usage.total, read.cpu.usage.user), (5000, 20_000_000));
        assert_eq!((read.memory.usage.usage, read.memory.usage.limit), (4096, 8192));
        assert_eq!((read.memory.rss, read.memory.total_inactive_file), (1024, 512));
        assert_eq!((read.pids.current, read.pids.limit), (1, 0));
    }
}
