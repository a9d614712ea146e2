use super::*;

fn spec(json: &str) -> Spec {
    serde_json::from_str(json).expect("an OCI specification")
}

#[test]
fn the_containers_of_a_pod_are_one_group() {
    let sandbox =
        spec(r#"{"annotations":{"io.kubernetes.cri.sandbox-id":"pod1","io.kubernetes.cri.container-type":"sandbox"}}"#);
    let container = spec(
        r#"{"annotations":{"io.kubernetes.cri.sandbox-id":"pod1","io.kubernetes.cri.container-type":"container"}}"#,
    );
    assert_eq!((sandbox.group("pod1"), container.group("c2")), ("pod1", "pod1"));
    assert_eq!((sandbox.role(), container.role()), (Role::Sandbox, Role::Guest));
}

#[test]
fn a_container_without_a_pod_is_its_own_group() {
    assert_eq!(spec("{}").group("alone"), "alone");
    assert_eq!(spec("{}").role(), Role::Guest);
}

#[test]
fn fields_and_values_of_later_specifications_are_no_obstacle() {
    let spec = spec(
        r#"{"ociVersion":"9.0","hooks":{"poststop":[]},"process":{"args":["/a"],"capabilities":{"bounding":["CAP_NEW"]}},
            "linux":{"namespaces":[{"type":"quantum"},{"type":"network","path":"/n"}],"seccomp":{"defaultAction":"SCMP_ACT_NEW"}}}"#,
    );
    assert_eq!(spec.namespace(&NamespaceKind::Network).map(|n| n.path.clone()), Some(PathBuf::from("/n")));
}

#[test]
fn the_last_of_two_settings_of_a_variable_counts() {
    let spec = spec(r#"{"process":{"env":["PATH=/a","PATHS=/no","PATH=/b"]}}"#);
    assert_eq!(spec.env("PATH"), Some("/b"));
    assert_eq!(spec.env("HOME"), None);
}

#[test]
fn a_missing_specification_is_named() {
    let error = Spec::of_bundle(Path::new("/nonexistent")).unwrap_err();
    assert!(error.to_string().contains("/nonexistent/config.json"), "{error}");
}

#[test]
fn namespaces_and_devices_are_written_as_they_were_read() {
    let json = r#"{"linux":{"namespaces":[{"type":"pid"},{"type":"quantum"}],
        "devices":[{"path":"/dev/a","type":"u","major":1},{"path":"/dev/b","type":"b"},{"path":"/dev/x","type":"x"}]}}"#;
    let read = spec(json);
    let again = spec(&serde_json::to_string(&read).expect("JSON"));
    let kinds = |spec: &Spec| {
        let devices: Vec<_> = spec.linux.devices.iter().map(|device| device.kind.clone()).collect();
        (spec.linux.namespaces.iter().map(|namespace| namespace.kind.clone()).collect::<Vec<_>>(), devices)
    };
    let namespaces = vec![NamespaceKind::Pid, NamespaceKind::Other("quantum".to_owned())];
    let devices = vec![DeviceKind::Character, DeviceKind::Block, DeviceKind::Other("x".to_owned())];
    assert_eq!(kinds(&read), (namespaces, devices));
    assert_eq!(kinds(&again), kinds(&read));
}
