//! Between the contract's generated types and this crate's plain ones, and nothing else.
//!
//! What comes from a kit is bounded and cleaned on the way: a kit's answer ends up in logs, in status lines and
//! in other nodes' memory.

use crate::bindings::exports::mainstay::kit::recovery as wit_recovery;
use crate::bindings::mainstay::kit::types as wit;
use crate::bindings::ready::exports::mainstay::kit::readiness as wit_readiness;
use crate::limits::Limits;
use crate::outcome::{
    Details, Done, Effect, ErrorKind, Failure, Finding, Health, KitError, RecoveryResult, Report, Retry, Verdict,
    Weight,
};
use crate::text::{clean, one_line};

/// A stable code, in bytes: a word, not a sentence.
const CODE_BYTES_MAX: usize = 100;
/// So many findings are kept: as many as anybody reads. They share the details that one report may have.
const FINDINGS_MAX: usize = 16;

pub(crate) fn done(done: wit_recovery::Done, limits: &Limits) -> Done {
    Done {
        changed: done.changed,
        summary: one_line(&done.summary, limits.text_bytes_max),
        details: details(done.details, limits),
    }
}

pub(crate) fn report(report: wit_recovery::Report, limits: &Limits) -> Report {
    Report {
        health: match report.health {
            wit::Health::Healthy => Health::Healthy,
            wit::Health::Degraded => Health::Degraded,
            wit::Health::Stopped => Health::Stopped,
            wit::Health::Failed => Health::Failed,
            wit::Health::Unknown => Health::Unknown,
        },
        code: one_line(&report.code, CODE_BYTES_MAX),
        summary: one_line(&report.summary, limits.text_bytes_max),
        details: details(report.details, limits),
    }
}

pub(crate) fn recovery_result(result: wit_recovery::RecoveryResult, limits: &Limits) -> RecoveryResult {
    RecoveryResult {
        verdict: match result.verdict {
            wit::Verdict::Recovered => Verdict::Recovered,
            wit::Verdict::RestartDependents => Verdict::RestartDependents,
            wit::Verdict::GiveUp => Verdict::GiveUp,
        },
        summary: one_line(&result.summary, limits.text_bytes_max),
        details: details(result.details, limits),
    }
}

/// What matters most comes first, so that it is not what is left out.
pub(crate) fn findings(found: Vec<wit_readiness::Finding>, limits: &Limits) -> Vec<Finding> {
    let limits = &Limits { details_max: limits.details_max / FINDINGS_MAX, ..limits.clone() };
    let finding = |finding: wit_readiness::Finding| Finding {
        weight: match finding.weight {
            wit_readiness::Weight::Note => Weight::Note,
            wit_readiness::Weight::Warning => Weight::Warning,
            wit_readiness::Weight::Blocking => Weight::Blocking,
        },
        code: one_line(&finding.code, CODE_BYTES_MAX),
        summary: one_line(&finding.summary, limits.text_bytes_max),
        advice: one_line(&finding.advice, limits.text_bytes_max),
        details: details(finding.details, limits),
    };
    let mut found = found;
    found.sort_by_key(|finding| match finding.weight {
        wit_readiness::Weight::Blocking => 0,
        wit_readiness::Weight::Warning => 1,
        wit_readiness::Weight::Note => 2,
    });
    found.into_iter().take(FINDINGS_MAX).map(finding).collect()
}

pub(crate) fn error(error: wit_recovery::Error, limits: &Limits) -> KitError {
    KitError {
        kind: match error.kind {
            wit::ErrorKind::InvalidParams => ErrorKind::InvalidParams,
            wit::ErrorKind::Denied => ErrorKind::Denied,
            wit::ErrorKind::Unavailable => ErrorKind::Unavailable,
            wit::ErrorKind::Conflict => ErrorKind::Conflict,
            wit::ErrorKind::Timeout => ErrorKind::Timeout,
            wit::ErrorKind::Unsupported => ErrorKind::Unsupported,
            wit::ErrorKind::Failed => ErrorKind::Failed,
        },
        code: one_line(&error.code, CODE_BYTES_MAX),
        message: one_line(&error.message, limits.text_bytes_max),
        retry: match error.retry {
            wit::Retry::Here => Retry::Here,
            wit::Retry::Elsewhere => Retry::Elsewhere,
            wit::Retry::Nowhere => Retry::Nowhere,
        },
        retry_after_ms: error.retry_after_ms,
        effect: match error.effect {
            wit::Effect::None => Effect::None,
            wit::Effect::Partial => Effect::Partial,
            wit::Effect::Unknown => Effect::Unknown,
        },
        details: details(error.details, limits),
    }
}

pub(crate) fn failure(failure: &Failure) -> wit_recovery::Failure {
    wit_recovery::Failure {
        found_by: failure.found_by.clone(),
        report: failure.report.as_ref().map(|report| wit::Report {
            health: match report.health {
                Health::Healthy => wit::Health::Healthy,
                Health::Degraded => wit::Health::Degraded,
                Health::Stopped => wit::Health::Stopped,
                Health::Failed => wit::Health::Failed,
                Health::Unknown => wit::Health::Unknown,
            },
            code: report.code.clone(),
            summary: report.summary.clone(),
            details: report.details.clone(),
        }),
        bad_checks: failure.bad_checks,
        details: failure.details.clone(),
    }
}

fn details(details: Details, limits: &Limits) -> Details {
    let more = details.len().saturating_sub(limits.details_max);
    let mut kept: Details = details
        .into_iter()
        .take(limits.details_max)
        .map(|(key, value)| (one_line(&key, CODE_BYTES_MAX), clean(&value, limits.detail_bytes_max)))
        .collect();
    if more > 0 {
        kept.push(("details-left-out".to_owned(), more.to_string()));
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_blocks_is_not_what_is_left_out() {
        let finding = |weight| wit_readiness::Finding {
            weight,
            code: "c".repeat(1000),
            summary: "s".repeat(100_000),
            advice: "a".repeat(100_000),
            details: vec![("key".to_owned(), "x".repeat(10_000)); 100],
        };
        let mut said = vec![finding(wit_readiness::Weight::Note); 100];
        said.push(finding(wit_readiness::Weight::Blocking));
        let found = findings(said, &Limits::default());
        let weights: Vec<_> = found.iter().map(|finding| finding.weight).collect();
        assert_eq!((weights.len(), weights[0], weights[1]), (FINDINGS_MAX, Weight::Blocking, Weight::Note));
        let bytes = serde_json::to_string(&found).map_or(usize::MAX, |json| json.len());
        assert!(bytes < 400_000, "{bytes}");
    }

    #[test]
    fn what_a_kit_says_is_bounded_and_cleaned() {
        let limits = Limits { text_bytes_max: 20, detail_bytes_max: 10, details_max: 2, ..Limits::default() };
        let entry = |index: usize| (format!("key\n{index}"), "x".repeat(100));
        let done = done(
            wit_recovery::Done {
                changed: true,
                summary: "\u{1b}[1m".repeat(1000),
                details: (0..5).map(entry).collect(),
            },
            &limits,
        );
        assert!(done.summary.len() <= 20 && !done.summary.contains('\u{1b}'), "{:?}", done.summary);
        assert_eq!(done.details[0], ("key 0".to_owned(), "xxxx [cut]".to_owned()));
        assert_eq!(done.details[2], ("details-left-out".to_owned(), "3".to_owned()));
        assert_eq!(done.details.len(), 3);
    }
}
