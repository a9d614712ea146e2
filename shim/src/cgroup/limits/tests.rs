use super::*;

fn resources(json: &str) -> Resources {
    serde_json::from_str(json).expect("resources")
}

fn lines(settings: Vec<Setting>) -> Vec<String> {
    settings
        .into_iter()
        .map(|s| format!("{}/{}={}{}", s.controller, s.file, s.value, if s.optional { " ?" } else { "" }))
        .collect()
}

const POD: &str = r#"{"devices":[{"allow":false}],"memory":{"limit":67108864,"swap":67108864},
    "cpu":{"shares":102,"quota":10000,"period":100000},"pids":{"limit":100}}"#;

#[test]
fn version_1_lifts_the_limit_of_swap_before_memory_is_set() {
    assert_eq!(
        lines(v1(&resources(POD))),
        [
            "memory/memory.memsw.limit_in_bytes=-1 ?",
            "memory/memory.limit_in_bytes=67108864",
            "memory/memory.memsw.limit_in_bytes=67108864 ?",
            "cpu/cpu.shares=102",
            "cpu/cpu.cfs_period_us=100000",
            "cpu/cpu.cfs_quota_us=10000",
            "pids/pids.max=100",
        ]
    );
}

#[test]
fn version_2_has_weight_and_swap_alone() {
    assert_eq!(
        lines(v2(&resources(POD))),
        [
            "memory/memory.max=67108864",
            "memory/memory.swap.max=0 ?",
            "cpu/cpu.weight=4",
            "cpu/cpu.max=10000 100000",
            "pids/pids.max=100"
        ]
    );
}

#[test]
fn what_is_not_limited_is_not_written() {
    assert_eq!(lines(v1(&Resources::default())), Vec::<String>::new());
    assert_eq!(lines(v2(&Resources::default())), Vec::<String>::new());
}

#[test]
fn without_limit_is_max_in_version_2() {
    let unlimited =
        resources(r#"{"memory":{"limit":-1,"swap":-1},"cpu":{"quota":-1,"period":100000},"pids":{"limit":-1}}"#);
    assert_eq!(
        lines(v2(&unlimited)),
        ["memory/memory.max=max", "memory/memory.swap.max=max ?", "cpu/cpu.max=max 100000", "pids/pids.max=max"]
    );
}

#[test]
fn files_of_version_2_are_set_as_they_are_but_stay_in_the_cgroup() {
    let unified = resources(r#"{"unified":{"memory.high":"1","../x":"2"}}"#);
    assert_eq!(lines(v2(&unified)), ["memory/memory.high=1"]);
}
