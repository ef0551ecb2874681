use super::*;

fn annotations(all: &[(&str, &str)]) -> Annotations {
    all.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn of(all: &[(&str, &str)]) -> Result<Habits, Vec<Mistake>> {
    Habits::of(&annotations(all), "web", false)
}

fn message(name: &str, value: &str) -> String {
    let key = format!("evenkeel.dev/{name}");
    let all = annotations(&[(&key, value)]);
    let mistakes = Habits::of(&all, "web", false).err().or_else(|| Order::of(&all).err());
    let Mistake { key: at, message, help } = mistakes.expect("a mistake").remove(0);
    assert_eq!(at, key);
    format!("{message}; {}", help.unwrap_or_default())
}

#[test]
fn habits_are_read() {
    let habits = of(&[
        ("evenkeel.dev/notify", "true"),
        ("evenkeel.dev/start-timeout", "1m30s"),
        ("evenkeel.dev/watchdog", "500ms"),
        ("evenkeel.dev/start-limit-burst", "3"),
        ("evenkeel.dev/restart-delay", "1s"),
        ("evenkeel.dev/restart-delay-factor", "1.5"),
        ("evenkeel.dev/restart-delay-max", "1m"),
        ("evenkeel.dev/sockets", "http=8080, dns=udp:53,9000"),
        ("evenkeel.dev/credentials", "password=db/pass.word"),
    ])
    .expect("right");
    assert!(habits.notify);
    assert_eq!(habits.start_timeout, Some(Duration::from_secs(90)));
    assert_eq!(habits.watchdog, Some(Duration::from_millis(500)));
    assert_eq!(habits.start_limit, Some(StartLimit { burst: 3, interval: Duration::from_secs(10) }));
    assert_eq!(habits.delays.factor, Some(1500));
    let socket = |name: &str, udp, port| Socket { name: name.into(), udp, port };
    assert_eq!(
        habits.sockets,
        [socket("http", false, 8080), socket("dns", true, 53), socket("9000", false, 9000)]
    );
    let credential = Credential { name: "password".into(), secret: "db".into(), key: "pass.word".into() };
    assert_eq!(habits.credentials, [credential]);
}

#[test]
fn a_containers_own_word_stands_over_that_for_all() {
    let all = annotations(&[("evenkeel.dev/notify", "true"), ("web.evenkeel.dev/notify", "false")]);
    let notify = |name: &str, is_init| Habits::of(&all, name, is_init).expect("right").notify;
    assert!(!notify("web", false) && notify("other", false) && !notify("init", true));
}

#[test]
fn what_is_not_understood_says_what_would_be_right() {
    assert_eq!(message("notify", "yes"), "`yes` is neither true nor false; write \"true\"");
    assert_eq!(
        message("watchdog", "30"),
        "`30` is no duration; write a duration such as `500ms`, `30s` or `1m30s`"
    );
    assert_eq!(message("start-limit-burst", "0"), "`0` is no number above zero; write one such as \"5\"");
    for wrong in ["0.5", "x", "1.", "-1", "9999"] {
        assert!(message("restart-delay-factor", wrong).contains("no factor from 1 to 1000"), "{wrong}");
    }
    for wrong in ["http=0", "http=80x", "sctp:80", "a:b=80=1", "80,80"] {
        assert!(message("sockets", wrong).contains('`') || wrong == "80,80", "{wrong}");
    }
    let many: Vec<String> = (1..40).map(|port| port.to_string()).collect();
    assert!(message("sockets", &many.join(",")).contains("open at most 32"));
    for wrong in ["password", "p=db", "../x=db/k", "p=DB/k", "p=db/"] {
        assert!(message("credentials", wrong).contains("names no key of a Secret"), "{wrong}");
    }
    assert!(message("after", "db").contains("`Deployment/db`"));
    assert!(message("requires", "Service/db").contains("it can for one of Deployment, StatefulSet"));
    assert!(message("start-timeout", "5s").contains("evenkeel.dev/notify"));
}

#[test]
fn workloads_are_named_as_in_commands() {
    let all = annotations(&[
        ("evenkeel.dev/after", "deployment/db, Job/migrate"),
        ("evenkeel.dev/requires", "Pod/x"),
    ]);
    let order = Order::of(&all).expect("right");
    let names: Vec<String> = order.all().map(|(key, workload)| format!("{key} {workload}")).collect();
    assert_eq!(
        names,
        ["evenkeel.dev/after Deployment/db", "evenkeel.dev/after Job/migrate", "evenkeel.dev/requires Pod/x"]
    );
}
