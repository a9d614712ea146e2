//! One operator acts at a time: the holder of a Lease. No kept crate does this for the kube version in use.

use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::api::PostParams;
use kube::{Api, Client};
use tokio::time::sleep;
use tracing::{info, warn};

const NAME: &str = "kwasm-operator";

/// Seconds after the last sign of life when others may take the Lease (client-go's default).
const DURATION: i32 = 15;

/// Between signs of life, and between looks at another's.
const RENEW: Duration = Duration::from_secs(5);

/// A holder that could not renew for so long stops acting: well before others may take over.
const GIVE_UP: Duration = Duration::from_secs(10);

/// A claim to the Lease.
pub(crate) struct Claim {
    leases: Api<Lease>,
    namespace: String,
    identity: String,
    /// The sign of life that was last seen, and when we saw it: clocks of other machines are not trusted.
    seen: Option<(String, Option<MicroTime>, Instant)>,
}

/// What to do about the Lease as it is.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    Create,
    Take,
    Renew,
    Wait,
}

impl Claim {
    pub(crate) fn new(client: Client, namespace: &str, identity: &str) -> Self {
        let leases = Api::namespaced(client, namespace);
        Self { leases, namespace: namespace.to_owned(), identity: identity.to_owned(), seen: None }
    }

    /// Returns when the Lease is held; `reached` is called when the API server first answers.
    pub(crate) async fn acquire(&mut self, reached: impl Fn()) {
        loop {
            match self.attempt().await {
                Ok(held) => {
                    reached();
                    if held {
                        info!(identity = self.identity, "holds the Lease");
                        return;
                    }
                }
                Err(error) => warn!(%error, "the Lease {}/{NAME} is tried again", self.namespace),
            }
            sleep(RENEW).await;
        }
    }

    /// Keeps the Lease; returns when it is lost.
    pub(crate) async fn keep(&mut self) {
        let mut renewed = Instant::now();
        while renewed.elapsed() < GIVE_UP {
            sleep(RENEW).await;
            match tokio::time::timeout(RENEW, self.attempt()).await {
                Ok(Ok(true)) => renewed = Instant::now(),
                Ok(Ok(false)) => return,
                Ok(Err(error)) => warn!(%error, "the Lease was not renewed"),
                Err(_) => warn!("the Lease was not renewed within {RENEW:?}"),
            }
        }
    }

    /// Gives the Lease back, so that a successor need not wait.
    pub(crate) async fn release(&self) {
        let Ok(Some(mut lease)) = self.leases.get_opt(NAME).await else { return };
        let spec = lease.spec.get_or_insert_default();
        if spec.holder_identity.as_deref() == Some(self.identity.as_str()) {
            spec.holder_identity = Some(String::new());
            if let Err(error) = self.leases.replace(NAME, &PostParams::default(), &lease).await {
                warn!(%error, "the Lease was not given back; a successor waits {DURATION} s");
            }
        }
    }

    /// One try; whether the Lease is held now.
    async fn attempt(&mut self) -> kube::Result<bool> {
        let lease = self.leases.get_opt(NAME).await?;
        let spec = lease.as_ref().and_then(|lease| lease.spec.as_ref());
        let stale_for = self.stale_for(spec);
        let step = step(spec, &self.identity, stale_for, lease.is_some());
        let written = match (step, lease) {
            (Step::Wait, _) => return Ok(false),
            (Step::Create, _) | (_, None) => {
                let metadata = ObjectMeta { name: Some(NAME.to_owned()), ..ObjectMeta::default() };
                let lease = Lease { metadata, spec: Some(self.renewed(None)) };
                self.leases.create(&PostParams::default(), &lease).await
            }
            (Step::Take | Step::Renew, Some(mut lease)) => {
                lease.spec = Some(self.renewed(lease.spec.as_ref()));
                self.leases.replace(NAME, &PostParams::default(), &lease).await
            }
        };
        match written {
            Ok(_) => Ok(true),
            // Somebody else was faster.
            Err(kube::Error::Api(status)) if status.is_conflict() || status.is_already_exists() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// For how long the holder has shown no sign of life, as far as we saw.
    fn stale_for(&mut self, spec: Option<&LeaseSpec>) -> Duration {
        let holder = spec.and_then(|spec| spec.holder_identity.clone()).unwrap_or_default();
        let sign = spec.and_then(|spec| spec.renew_time.clone());
        match &self.seen {
            Some((h, s, since)) if *h == holder && *s == sign => since.elapsed(),
            _ => {
                self.seen = Some((holder, sign, Instant::now()));
                Duration::ZERO
            }
        }
    }

    fn renewed(&self, before: Option<&LeaseSpec>) -> LeaseSpec {
        let now = Some(MicroTime(Timestamp::now()));
        let mine = before.filter(|spec| spec.holder_identity.as_deref() == Some(self.identity.as_str()));
        let transitions = before.and_then(|spec| spec.lease_transitions).unwrap_or(0);
        LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: Some(DURATION),
            acquire_time: mine.map_or_else(|| now.clone(), |spec| spec.acquire_time.clone()),
            lease_transitions: Some(if mine.is_some() { transitions } else { transitions + 1 }),
            renew_time: now,
            ..LeaseSpec::default()
        }
    }
}

fn step(spec: Option<&LeaseSpec>, identity: &str, stale_for: Duration, exists: bool) -> Step {
    if !exists {
        return Step::Create;
    }
    let holder = spec.and_then(|spec| spec.holder_identity.as_deref()).unwrap_or_default();
    let seconds = spec.and_then(|spec| spec.lease_duration_seconds).unwrap_or(DURATION);
    let duration = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
    match holder {
        "" => Step::Take,
        holder if holder == identity => Step::Renew,
        _ if stale_for > duration => Step::Take,
        _ => Step::Wait,
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::nobody_made_it(None, 0, Step::Create)]
    #[case::nobody_holds_it(Some(""), 0, Step::Take)]
    #[case::we_hold_it(Some("we"), 0, Step::Renew)]
    #[case::another_lives(Some("other"), 14, Step::Wait)]
    #[case::another_died(Some("other"), 16, Step::Take)]
    fn the_lease_is_taken_only_when_nobody_lives(
        #[case] holder: Option<&str>,
        #[case] stale: u64,
        #[case] expected: Step,
    ) {
        let spec = holder.map(|holder| LeaseSpec {
            holder_identity: Some(holder.to_owned()),
            lease_duration_seconds: Some(15),
            ..LeaseSpec::default()
        });
        assert_eq!(step(spec.as_ref(), "we", Duration::from_secs(stale), spec.is_some()), expected);
    }
}
