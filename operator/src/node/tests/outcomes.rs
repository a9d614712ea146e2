//! What follows from what is seen.

use kwasm_api::report::NodeState;
use kwasm_api::wasm_node::{HostIdentity, Phase, WasmNode};
use rstest::rstest;
use serde_json::json;

use super::{Action, Case, case};
use crate::testing::{NodeWords, failure, host, installed_anew, node, report, runtime, started_again, wasm_node};

fn wanted() -> WasmNode {
    wasm_node("a", &[runtime("w")])
}

fn changing() -> WasmNode {
    wanted().in_phase(Phase::Changing)
}

#[test]
fn a_new_spec_starts_a_job() {
    insta::assert_snapshot!(case(wanted()).text());
}

#[test]
fn a_job_that_is_missing_is_started_again() {
    assert_eq!(case(changing()).actions(), [Action::CreateJob]);
}

#[test]
fn a_job_that_runs_is_waited_for() {
    let plan = case(changing()).running().plan();
    assert_eq!((plan.actions, plan.status), (vec![], None));
}

#[test]
fn a_pod_that_cannot_start_is_told_of() {
    insta::assert_snapshot!(case(changing()).waiting("ImagePullBackOff: no such image").text());
}

#[test]
fn a_good_report_makes_the_node_ready_and_labels_it() {
    insta::assert_snapshot!(case(changing()).reported(&report(&changing())).text());
}

#[test]
fn a_failure_is_told_with_the_state_of_the_node_and_what_to_do() {
    let failed = failure(&changing(), NodeState::RolledBack);
    insta::assert_snapshot!(case(changing()).reported(&failed).text());
}

#[rstest]
#[case::the_pod_was_killed(case(changing()).failed(""), "InstallerFailed")]
#[case::the_pod_is_gone(case(changing()).ended(Some("DeadlineExceeded: too long"), &[]), "InstallerFailed")]
#[case::the_job_succeeded_and_the_pod_is_gone(case(changing()).ended(None, &[]), "PodGone")]
#[case::a_runtime_is_missing(
    case(changing()).reported(&kwasm_api::Report { runtimes: vec![], ..report(&changing()) }),
    "RuntimeMissing"
)]
#[case::another_order(
    case(changing()).reported(&kwasm_api::Report { order: "other".into(), ..report(&changing()) }),
    "ReportOfAnotherOrder"
)]
fn without_proof_the_node_failed_and_is_not_labelled(#[case] case: Case, #[case] reason: &str) {
    let plan = case.plan();
    let status = plan.status.unwrap();
    assert_eq!((status.phase, status.conditions[0].reason.as_str()), (Some(Phase::Failed), reason));
    assert_eq!(plan.actions, []);
}

#[test]
fn a_report_that_shows_everything_is_proof_even_if_the_pod_was_killed() {
    let case = case(changing()).failed(&report(&changing()).to_json()).written();
    assert_eq!(case.wasm_node.status.unwrap().phase, Some(Phase::Ready));
}

#[test]
fn a_kubelet_that_reports_handlers_has_the_last_word() {
    let case = case(changing()).on(node("a").reporting(&["runc"])).reported(&report(&changing())).written();
    assert_eq!(case.wasm_node.status.as_ref().unwrap().phase, Some(Phase::Verifying));
    assert_eq!(case.labels(), Vec::<&str>::new());
    let reported = case.on(node("a").reporting(&["runc", "w"])).written();
    assert_eq!(reported.labels(), ["kwasm.sh/kwasm-provisioned", "runtime.kwasm.sh/w"]);
}

#[test]
fn a_handler_that_the_kubelet_never_reports_is_a_failure() {
    let case = case(changing()).on(node("a").reporting(&["runc"])).reported(&report(&changing())).written();
    insta::assert_snapshot!(case.at(221).text());
}

#[test]
fn a_handler_that_the_kubelet_loses_is_no_longer_advertised() {
    let ready = case(wanted().verified()).on(node("a").reporting(&["w"])).written();
    assert_eq!(ready.labels(), ["kwasm.sh/kwasm-provisioned", "runtime.kwasm.sh/w"]);
    let mut lost = ready.node.clone();
    lost.handlers = Some(["runc".to_owned()].into());
    insta::assert_snapshot!(ready.on(lost).text());
}

#[test]
fn a_loss_after_a_long_time_does_not_wait_as_long_as_a_node_that_keeps_failing() {
    let retry_after = |ready_since: i64| {
        let case = case(wanted().attempt(7).in_phase(Phase::Changing)).on(node("a").reporting(&["w"]));
        let ready = case.at(ready_since).reported(&report(&wanted())).written();
        let status = ready.on(node("a").reporting(&[])).at(1000).plan().status.unwrap();
        status.retry_after.unwrap().0.as_second() - 1000
    };
    assert_eq!((retry_after(900), retry_after(100)), (600, 10));
}

#[test]
fn a_runtime_in_use_is_asked_for_again_soon_after_its_pods_may_have_gone() {
    let retry_after = |reason: &str| {
        let removing = wanted().verified().respecified(&[]).attempt(9).in_phase(Phase::Changing);
        let mut refused = failure(&removing, NodeState::Unchanged);
        refused.failure.as_mut().unwrap().reason = reason.to_owned();
        let status = case(removing).reported(&refused).plan().status.unwrap();
        status.retry_after.unwrap().0.as_second() - 100
    };
    assert_eq!((retry_after("RuntimeInUse"), retry_after("ConfigNotToml")), (30, 600));
}

#[rstest]
#[case::started_again(started_again(), vec!["kwasm.sh/kwasm-provisioned", "runtime.kwasm.sh/w"])]
#[case::installed_anew(installed_anew(), vec![])]
fn a_host_keeps_its_labels_when_it_is_started_again_and_loses_them_when_it_is_another(
    #[case] now: HostIdentity,
    #[case] labels: Vec<&str>,
) {
    let ready = case(wanted().made_for(&host()).verified()).on(node("a").on_host(&host())).written();
    let seen = ready.node.clone().on_host(&now);
    assert_eq!(ready.on(seen).written().labels(), labels);
}

#[test]
fn another_host_is_labelled_when_it_was_verified_and_not_before() {
    let known = wanted().made_for(&host()).verified();
    let looked_at = known.respecified(&[runtime("w")]).made_for(&installed_anew());
    let started = case(looked_at).on(node("a").on_host(&installed_anew())).written();
    let failed = case(started.wasm_node.clone()).on(started.node.clone()).failed("").written();
    assert_eq!(failed.labels(), Vec::<&str>::new());
    let reported = report(&started.wasm_node);
    let verified = case(started.wasm_node).on(started.node).reported(&reported).written().written();
    assert_eq!(verified.labels(), ["kwasm.sh/kwasm-provisioned", "runtime.kwasm.sh/w"]);
}

#[test]
fn labels_go_before_a_removal_starts_even_if_they_seem_to_be_gone() {
    let removing = wanted().verified().respecified(&[]);
    let actions = case(removing).actions();
    let Action::Label(patch) = &actions[0] else { panic!("{actions:?}") };
    assert_eq!(patch["runtime.kwasm.sh/w"], None);
    assert_eq!(patch["kwasm.sh/kwasm-provisioned"], None);
    assert_eq!(actions[1..], [Action::CreateJob]);
}

#[test]
fn a_runtime_that_is_wanted_back_while_it_is_removed_is_advertised_only_after_a_new_report() {
    let ready = case(wanted().verified()).written();
    let removing = case(ready.wasm_node.respecified(&[])).on(ready.node).written();
    assert_eq!(removing.labels(), Vec::<&str>::new());
    let wanted_back = removing.wasm_node.respecified(&[runtime("w")]);
    let waiting = case(wanted_back).on(removing.node).beside("old", json!({"active": 1, "ready": 1})).written();
    assert_eq!(waiting.labels(), Vec::<&str>::new(), "the removal runs");
    let started = case(waiting.wasm_node).on(waiting.node).written();
    assert_eq!(started.labels(), Vec::<&str>::new(), "nobody looked at the host yet");
    let killed = case(started.wasm_node).on(started.node).failed("").written();
    assert_eq!(killed.labels(), Vec::<&str>::new(), "nor has the installer said anything");
}

#[test]
fn a_new_spec_adds_no_label_before_its_job() {
    let both = [runtime("v"), runtime("w")];
    let case = case(wanted().verified().respecified(&both)).written();
    assert_eq!(case.labels(), Vec::<&str>::new());
}

#[test]
fn a_runtime_that_stays_as_it_is_keeps_its_label_while_another_comes() {
    let both = [runtime("v"), runtime("w")];
    let ready = case(wanted().verified()).written();
    let case = case(ready.wasm_node.clone().respecified(&both)).on(ready.node).written();
    assert_eq!(case.labels(), ["runtime.kwasm.sh/w"]);
}

#[test]
fn a_node_that_needs_attention_advertises_nothing() {
    let both = [runtime("v"), runtime("w")];
    let broken = wanted().verified().respecified(&both).in_phase(Phase::Changing);
    let report =
        kwasm_api::Report { runtimes: report(&wanted()).runtimes, ..failure(&broken, NodeState::NeedsAttention) };
    let case = case(broken).on(node("a").advertising("w")).reported(&report).written();
    assert_eq!(case.labels(), Vec::<&str>::new());
}

#[test]
fn a_label_that_somebody_took_away_comes_back() {
    assert_eq!(case(wanted().verified()).written().labels(), ["kwasm.sh/kwasm-provisioned", "runtime.kwasm.sh/w"]);
}

#[test]
fn a_removal_ends_with_nothing_on_the_node() {
    let removing = wanted().verified().respecified(&[]).in_phase(Phase::Changing);
    let gone = kwasm_api::Report { version: 1, ..report(&removing) };
    insta::assert_snapshot!(case(removing).reported(&gone).text());
}

#[test]
fn two_installers_never_run_on_one_node() {
    let case = case(wanted().respecified(&[])).beside("old", json!({"active": 1, "ready": 1}));
    let plan = case.plan();
    assert_eq!((plan.actions, plan.status), (vec![], None));
}

#[test]
fn a_job_that_never_started_makes_room_for_the_next() {
    let case = case(wanted().respecified(&[])).beside("old", json!({"active": 1, "ready": 0}));
    assert_eq!(case.actions(), [Action::DeleteJob("old".to_owned())]);
}

#[test]
fn the_job_before_is_kept_until_the_next_has_ended() {
    let failed = json!({"conditions": [{"type": "Failed", "status": "True"}]});
    let running = case(changing()).running().beside("old", failed.clone());
    assert_eq!(running.actions(), []);
    let ended = case(changing()).failed("").beside("old", failed);
    assert_eq!(ended.actions(), [Action::DeleteJob("old".to_owned())]);
}

#[test]
fn a_job_that_succeeded_is_deleted_ten_minutes_later() {
    let ready = case(wanted().verified()).written().succeeded("");
    let before = case(ready.wasm_node.clone()).on(ready.node.clone()).succeeded("").at(689);
    assert_eq!(before.plan().again.map(|wait| wait.as_secs()), Some(1));
    assert_eq!(before.at(690).actions().len(), 1);
}

#[test]
fn a_node_as_it_should_be_needs_no_write() {
    let plan = case(changing()).reported(&report(&changing())).written().plan();
    assert_eq!((plan.actions, plan.status, plan.note), (vec![], None, None));
}

#[test]
fn a_custom_installer_without_a_report_is_verified_by_the_kubelet() {
    let case = case(changing()).on(node("a").reporting(&["w"])).succeeded("done");
    insta::assert_snapshot!(case.text());
}

#[test]
fn a_custom_installer_that_nobody_can_verify_is_published_and_said_to_be_unverified() {
    insta::assert_snapshot!(case(changing()).succeeded("done").text());
}

#[test]
fn a_custom_installer_that_says_nothing_is_not_believed_to_have_removed_anything() {
    let nothing = wasm_node("a", &[]).in_phase(Phase::Changing);
    insta::assert_snapshot!(case(nothing).succeeded("done").text());
}

#[test]
fn a_custom_installer_is_not_run_to_remove_what_it_only_can_install() {
    let installed = case(changing()).succeeded("done").written();
    let removing = case(installed.wasm_node.clone().respecified(&[])).on(installed.node);
    insta::assert_snapshot!(removing.text());
}
