use super::{Quantity, QuantityError};
use proptest::prelude::*;

fn q(text: &str) -> Quantity {
    Quantity::parse(text).unwrap_or_else(|e| panic!("{text}: {e}"))
}

#[test]
fn what_kubernetes_writes_is_read() {
    for (text, millis, units) in [
        ("100m", 100, 1),
        ("64Mi", 67_108_864_000, 67_108_864),
        ("1e3", 1_000_000, 1000),
        ("1E3", 1_000_000, 1000),
        ("0.5", 500, 1),
        (".5", 500, 1),
        ("5.", 5000, 5),
        ("1k", 1_000_000, 1000),
        ("1.5Gi", 1_610_612_736_000, 1_610_612_736),
        ("0.1m", 1, 1),
        ("-1500m", -1500, -1),
        ("+2", 2000, 2),
        ("0", 0, 0),
        ("1e-3", 1, 1),
    ] {
        assert_eq!((q(text).millis_ceil(), q(text).bytes_ceil()), (millis, units), "{text}");
    }
}

#[test]
fn the_largest_are_capped() {
    for text in [
        "9223372036854775807",
        "100E",
        "8Ei",
        "1e30",
        "99999999999999999999999999999999999999999999",
        "20000000000Gi",
    ] {
        assert_eq!(q(text).bytes_ceil(), i64::MAX, "{text}");
    }
    assert_eq!(q("1e-400").bytes_ceil(), 1);
    assert_eq!(q("0e2000000000").bytes_ceil(), 0);
}

#[test]
fn what_is_none_is_refused() {
    for text in
        ["", "-", "m", "1.2.3", "1mm", "64MB", "1 Gi", "0x10", "1e", "1e3.5", "Mi", "NaN", "1e+-3", "½"]
    {
        assert!(Quantity::parse(text).is_err(), "{text}");
    }
    assert_eq!(Quantity::parse("64MiB").unwrap_err().help(), "did you mean `Mi`?");
    assert_eq!(Quantity::parse("1K").unwrap_err(), QuantityError::UnknownSuffix { suffix: "K".into() });
}

#[test]
fn the_canonical_form_is_that_of_kubernetes() {
    for (text, canonical) in [
        ("1.5", "1500m"),
        ("1.5Gi", "1536Mi"),
        ("1024Ki", "1Mi"),
        ("1000m", "1"),
        ("1000k", "1M"),
        ("512", "512"),
        ("0.5Ki", "512"),
        ("0.5Mi", "512Ki"),
        ("1e3", "1e3"),
        ("12e6", "12e6"),
        ("100e0", "100"),
        ("0Mi", "0"),
        ("-2000m", "-2"),
        ("0.3n", "1n"),
    ] {
        assert_eq!(q(text).to_string(), canonical, "{text}");
    }
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in "\\PC{0,24}") {
        let _ = Quantity::parse(&text);
    }

    #[test]
    fn the_canonical_form_is_the_same_quantity(
        whole in 0u64..10_000_000, fraction in "[0-9]{0,12}", suffix in "(n|u|m||k|M|G|T|Ki|Mi|Gi|Ti|e3|e-2)"
    ) {
        let first = q(&format!("{whole}.{fraction}{suffix}"));
        let again = q(&first.to_string());
        prop_assert_eq!(first, again);
        prop_assert_eq!(again.to_string(), first.to_string());
    }

    #[test]
    fn whole_numbers_keep_their_order(a in any::<i32>(), b in any::<i32>()) {
        let (x, y) = (q(&a.to_string()), q(&format!("{}m", i64::from(b) * 1000)));
        prop_assert_eq!(x.cmp(&y), a.cmp(&b));
        prop_assert_eq!(x.bytes_ceil(), i64::from(a));
        prop_assert_eq!(y.millis_ceil(), i64::from(b) * 1000);
    }

    #[test]
    fn rounding_is_upwards_and_by_less_than_one(millis in 0i64..1_000_000_000) {
        let bytes = q(&format!("{millis}m")).bytes_ceil();
        prop_assert!(bytes * 1000 >= millis && (bytes - 1) * 1000 < millis);
    }
}
