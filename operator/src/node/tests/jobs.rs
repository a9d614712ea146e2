//! The Job as it is created.

use kwasm_api::Order;

use super::super::job::{JobSettings, Proxies, build, name};
use crate::testing::{NodeWords, runtime, wasm_node};

fn settings() -> JobSettings {
    JobSettings {
        namespace: "kwasm".to_owned(),
        priority_class: "system-node-critical".to_owned(),
        image_pull_secrets: Vec::new(),
        proxies: Proxies::default(),
    }
}

#[test]
fn the_job_is_the_one_that_kwasm_users_know() {
    let job = build(&wasm_node("node-1", &[runtime("w")]), &settings());
    insta::assert_snapshot!(serde_json::to_string_pretty(&job).unwrap());
}

#[test]
fn the_installer_is_told_the_whole_order() {
    let wasm_node = wasm_node("node-1", &[runtime("w"), runtime("v")]);
    let job = build(&wasm_node, &settings());
    let env = job.spec.unwrap().template.spec.unwrap().containers[0].env.clone().unwrap();
    let told = env.iter().find(|entry| entry.name == "KWASM_ORDER").and_then(|entry| entry.value.clone()).unwrap();
    let names: Vec<_> = Order::from_json(&told).unwrap().runtimes.into_iter().map(|runtime| runtime.name).collect();
    assert_eq!(names, ["v", "w"]);
}

#[test]
fn the_installer_finds_each_pull_secret_and_the_proxies_of_the_chart() {
    let proxies = Proxies { https: "http://proxy:3128".to_owned(), ..Proxies::default() };
    let settings = JobSettings { image_pull_secrets: vec!["team-registry".to_owned()], proxies, ..settings() };
    let pod = build(&wasm_node("node-1", &[runtime("w")]), &settings).spec.unwrap().template.spec.unwrap();
    let container = &pod.containers[0];
    let proxies = container.env.iter().flatten().filter(|entry| entry.name.ends_with("_PROXY"));
    let proxies: Vec<_> = proxies.map(|entry| (entry.name.as_str(), entry.value.as_deref())).collect();
    assert_eq!(proxies, [("HTTPS_PROXY", Some("http://proxy:3128"))]);
    let mount =
        container.volume_mounts.iter().flatten().find(|mount| mount.mount_path.ends_with("/pull/team-registry"));
    let volume = pod.volumes.iter().flatten().find(|volume| Some(&volume.name) == mount.map(|mount| &mount.name));
    let secret = volume.and_then(|volume| volume.secret.as_ref()).and_then(|secret| secret.secret_name.as_deref());
    assert_eq!(secret, Some("team-registry"));
}

#[test]
fn kubernetes_finds_nothing_to_expand_in_an_order() {
    let mut priced = runtime("w");
    priced.pod_annotations.push("$(NODE_NAME)".to_owned());
    let job = build(&wasm_node("node-1", &[priced]), &settings());
    let env = job.spec.unwrap().template.spec.unwrap().containers[0].env.clone().unwrap();
    let told = env.iter().find(|entry| entry.name == "KWASM_ORDER").and_then(|entry| entry.value.clone()).unwrap();
    assert!(told.contains(r#""$$(NODE_NAME)""#), "{told}");
}

#[test]
fn names_that_are_cut_do_not_collide_and_fit_into_a_label() {
    let long = format!("ip-10-0-0-1.{}.internal", "a".repeat(200));
    let one = name(&wasm_node(&format!("{long}1"), &[]));
    let two = name(&wasm_node(&format!("{long}2"), &[]));
    assert!(one.len() <= 63 && two.len() <= 63, "{one} {two}");
    assert_ne!(one, two);
}

#[test]
fn another_spec_another_attempt_and_another_object_have_other_jobs() {
    let first = wasm_node("a", &[runtime("w")]);
    let mut recreated = first.clone();
    recreated.metadata.uid = Some("another".to_owned());
    let again = first.clone().attempt(2).respecified(&[runtime("w")]);
    let names = [name(&first), name(&recreated), name(&again), name(&first.clone().respecified(&[]))];
    let different: std::collections::BTreeSet<_> = names.iter().collect();
    assert_eq!(different.len(), names.len(), "{names:?}");
    assert_eq!(name(&first), name(&first.clone()));
}
