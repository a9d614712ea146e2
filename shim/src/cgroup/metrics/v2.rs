//! Version 2 hosts.

use containerd_shim_protos::cgroups_v2::metrics::{
    CPUStat, IOEntry, IOStat, MemoryEvents, MemoryStat, Metrics, PidsStat,
};
use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::protobuf::{Message, MessageField};

use super::super::Controller;
use super::{Flat, number};

/// The message, from a function that reads a file of the cgroup (empty if there is none).
pub(in super::super) fn metrics(read: impl Fn(Controller, &str) -> String) -> Any {
    let metrics = Metrics {
        pids: MessageField::some(PidsStat {
            current: number(&read(Controller::Pids, "pids.current")),
            limit: Some(number(&read(Controller::Pids, "pids.max"))).filter(|max| *max != u64::MAX).unwrap_or(0),
            ..PidsStat::default()
        }),
        cpu: MessageField::some(cpu(&read(Controller::Cpu, "cpu.stat"))),
        memory: MessageField::some(MemoryStat {
            usage: number(&read(Controller::Memory, "memory.current")),
            usage_limit: number(&read(Controller::Memory, "memory.max")),
            max_usage: number(&read(Controller::Memory, "memory.peak")),
            swap_usage: number(&read(Controller::Memory, "memory.swap.current")),
            swap_limit: number(&read(Controller::Memory, "memory.swap.max")),
            ..memory_stat(&Flat::parse(&read(Controller::Memory, "memory.stat")))
        }),
        memory_events: MessageField::some(events(&Flat::parse(&read(Controller::Memory, "memory.events")))),
        io: MessageField::some(IOStat {
            usage: read(Controller::Memory, "io.stat").lines().filter_map(io_entry).collect(),
            ..IOStat::default()
        }),
        ..Metrics::default()
    };
    Any {
        type_url: "io.containerd.cgroups.v2.Metrics".to_owned(),
        value: metrics.write_to_bytes().unwrap_or_default(),
        ..Any::default()
    }
}

fn cpu(text: &str) -> CPUStat {
    let stat = Flat::parse(text);
    CPUStat {
        usage_usec: stat.get("usage_usec"),
        user_usec: stat.get("user_usec"),
        system_usec: stat.get("system_usec"),
        nr_periods: stat.get("nr_periods"),
        nr_throttled: stat.get("nr_throttled"),
        throttled_usec: stat.get("throttled_usec"),
        ..CPUStat::default()
    }
}

fn memory_stat(stat: &Flat<'_>) -> MemoryStat {
    MemoryStat {
        anon: stat.get("anon"),
        file: stat.get("file"),
        kernel_stack: stat.get("kernel_stack"),
        slab: stat.get("slab"),
        sock: stat.get("sock"),
        shmem: stat.get("shmem"),
        file_mapped: stat.get("file_mapped"),
        file_dirty: stat.get("file_dirty"),
        file_writeback: stat.get("file_writeback"),
        anon_thp: stat.get("anon_thp"),
        inactive_anon: stat.get("inactive_anon"),
        active_anon: stat.get("active_anon"),
        inactive_file: stat.get("inactive_file"),
        active_file: stat.get("active_file"),
        unevictable: stat.get("unevictable"),
        slab_reclaimable: stat.get("slab_reclaimable"),
        slab_unreclaimable: stat.get("slab_unreclaimable"),
        pgfault: stat.get("pgfault"),
        pgmajfault: stat.get("pgmajfault"),
        ..MemoryStat::default()
    }
}

fn events(events: &Flat<'_>) -> MemoryEvents {
    MemoryEvents {
        low: events.get("low"),
        high: events.get("high"),
        max: events.get("max"),
        oom: events.get("oom"),
        oom_kill: events.get("oom_kill"),
        oom_group_kill: events.get("oom_group_kill"),
        ..MemoryEvents::default()
    }
}

/// A line as `8:0 rbytes=1 wbytes=2 rios=3 wios=4 …`.
fn io_entry(line: &str) -> Option<IOEntry> {
    let (device, values) = line.split_once(' ')?;
    let (major, minor) = device.split_once(':')?;
    let value =
        |key: &str| values.split(' ').find_map(|pair| pair.strip_prefix(key)?.strip_prefix('=')).map_or(0, number);
    Some(IOEntry {
        major: major.parse().ok()?,
        minor: minor.parse().ok()?,
        rbytes: value("rbytes"),
        wbytes: value("wbytes"),
        rios: value("rios"),
        wios: value("wios"),
        ..IOEntry::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_become_containerds_message_of_version_2() {
        let any = metrics(|_, file| {
            match file {
                "cpu.stat" => "usage_usec 7\nuser_usec 4\n",
                "memory.current" => "4096\n",
                "memory.max" => "max\n",
                "memory.stat" => "anon 1024\n",
                "memory.events" => "oom_kill 2\n",
                "pids.current" => "3\n",
                "io.stat" => "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0\n",
                _ => "",
            }
            .to_owned()
        });
        assert_eq!(any.type_url, "io.containerd.cgroups.v2.Metrics");
        let read = Metrics::parse_from_bytes(&any.value).unwrap();
        assert_eq!((read.cpu.usage_usec, read.memory.usage, read.memory.usage_limit), (7, 4096, u64::MAX));
        assert_eq!((read.memory.anon, read.memory_events.oom_kill, read.pids.current), (1024, 2, 3));
        assert_eq!((read.io.usage[0].wbytes, read.io.usage[0].wios), (2, 4));
    }
}
