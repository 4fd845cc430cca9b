//! A code that is not as the contract wants it is found by the kit's own tests.

use mainstay_sdk::prelude::*;

#[test]
fn a_code_is_in_lower_case_with_hyphens() {
    let made = |code: &str| {
        let code = code.to_owned();
        std::panic::catch_unwind(move || {
            let report = Report::healthy("").code(code.clone());
            let error = Error::failed(code.clone(), "");
            assert_eq!((&report.code, &error.code), (&code, &code));
            Fault::new(FaultKind::Failed, code, "")
        })
    };
    for code in ["ok", "not-active", "http-503", "a"] {
        assert!(made(code).is_ok(), "{code}");
    }
    for code in ["", "X Y", "not_active", "Not-active", "-a", "a-", "503", "a.b", "größe"] {
        let said = *made(code).unwrap_err().downcast::<String>().unwrap();
        assert!(said.contains("is no code") && said.contains("lower case"), "{said}");
    }
}
