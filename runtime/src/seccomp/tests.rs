use super::*;
use oci_spec::runtime::Capability;
use serde_json::json;

const X86_64: u32 = 0xc000_003e;
const I386: u32 = 0x4000_0003;
const ALLOW: u32 = 0x7fff_0000;
const EPERM: u32 = 0x0005_0001;
const ENOSYS: u32 = 0x0005_0000 | 38;

/// Runs a filter as the kernel does.
fn verdict(filter: &[u8], arch: u32, number: u32, arguments: [u64; 6]) -> u32 {
    let mut data = Vec::new();
    data.extend(number.to_le_bytes());
    data.extend(arch.to_le_bytes());
    data.extend(0_u64.to_le_bytes());
    data.extend(arguments.iter().flat_map(|one| one.to_le_bytes()));
    let program: Vec<&[u8]> = filter[4..].chunks(8).collect();
    let (mut at, mut register) = (0_usize, 0_u32);
    loop {
        let instruction = program[at];
        let code = u16::from_le_bytes([instruction[0], instruction[1]]);
        let value = u32::from_le_bytes([instruction[4], instruction[5], instruction[6], instruction[7]]);
        let [yes, no] = [usize::from(instruction[2]), usize::from(instruction[3])];
        let jump = |holds: bool| if holds { yes } else { no };
        at += 1 + match code {
            0x20 => {
                let from = value as usize;
                register = u32::from_le_bytes(data[from..from + 4].try_into().unwrap());
                0
            }
            0x54 => {
                register &= value;
                0
            }
            0x05 => value as usize,
            0x15 => jump(register == value),
            0x25 => jump(register > value),
            0x35 => jump(register >= value),
            0x06 => return value,
            other => panic!("instruction {other:#x}"),
        };
    }
}

fn number(machine: table::Machine, name: &str) -> u32 {
    machine.calls()[name]
}

fn of_default(capabilities: &[Capability]) -> Vec<u8> {
    compile(&default_profile(&capabilities.iter().copied().collect())).unwrap()
}

fn call(filter: &[u8], name: &str, first: u64) -> u32 {
    verdict(filter, X86_64, number(table::Machine::X86_64, name), [first, 0, 0, 0, 0, 0])
}

#[test]
fn the_default_lets_ordinary_calls_through_and_refuses_the_rest() {
    let filter = of_default(&[]);
    for name in ["read", "openat", "execve", "mknod", "setuid", "rseq", "statx", "faccessat2", "fchmodat2"] {
        assert_eq!(call(&filter, name, 0), ALLOW, "{name}");
    }
    for name in [
        "mount",
        "unshare",
        "setns",
        "bpf",
        "keyctl",
        "add_key",
        "perf_event_open",
        "init_module",
        "reboot",
        "kexec_load",
        "swapon",
        "open_by_handle_at",
        "userfaultfd",
        "io_uring_setup",
        "move_mount",
        "pivot_root",
        "settimeofday",
        "acct",
        "chroot",
        "fsopen",
        "process_madvise",
        "nfsservctl",
    ] {
        assert_eq!(call(&filter, name, 0), EPERM, "{name}");
    }
    assert_eq!(call(&filter, "clone3", 0), ENOSYS);
    // Newer than the table: programs must be able to fall back.
    assert_eq!(verdict(&filter, X86_64, 5000, [0; 6]), ENOSYS);
    // The machine language that nobody has.
    assert_eq!(verdict(&filter, 0x1234, 0, [0; 6]), 0);
}

#[test]
fn arguments_decide_where_they_matter() {
    let filter = of_default(&[]);
    assert_eq!(call(&filter, "clone", 0x0120_0011), ALLOW);
    for namespace in
        [0x0002_0000_u64, 0x0200_0000, 0x0400_0000, 0x0800_0000, 0x1000_0000, 0x2000_0000, 0x4000_0000]
    {
        assert_eq!(call(&filter, "clone", namespace | 17), EPERM, "{namespace:#x}");
    }
    assert_eq!(call(&filter, "socket", 40), EPERM);
    assert_eq!(call(&filter, "socket", 2), ALLOW);
    assert_eq!(call(&filter, "socket", 40 | 1 << 32), ALLOW, "another number altogether");
    assert_eq!(call(&filter, "personality", 0xffff_ffff), ALLOW);
    assert_eq!(call(&filter, "personality", 0x0040_0000), EPERM, "no randomisation");
}

#[test]
fn a_capability_brings_its_calls() {
    let filter = of_default(&[Capability::SysAdmin, Capability::SysTime]);
    for name in ["mount", "unshare", "clone3", "settimeofday"] {
        assert_eq!(call(&filter, name, 0), ALLOW, "{name}");
    }
    assert_eq!(call(&filter, "clone", 0x1000_0000), ALLOW);
    assert_eq!(call(&filter, "chroot", 0), EPERM);
}

#[test]
fn programs_of_32_bits_have_numbers_of_their_own() {
    let filter = of_default(&[]);
    let at = |name: &str| verdict(&filter, I386, number(table::Machine::I386, name), [0; 6]);
    assert_eq!((at("read"), at("socketcall"), at("mount")), (ALLOW, ALLOW, EPERM));
}

fn profile(value: &serde_json::Value) -> Result<Vec<u8>, SeccompError> {
    compile(&parse(value.to_string().as_bytes())?)
}

#[test]
fn every_action_and_comparison_of_a_profile_is_done() {
    let rule = |name: &str, op: &str, value: u64, two: u64| {
        json!({"names": [name], "action": "SCMP_ACT_ERRNO", "errnoRet": 9,
               "args": [{"index": 0, "value": value, "valueTwo": two, "op": op}]})
    };
    let wide = 5 | 7 << 32;
    let filter = profile(&json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
        {"names": ["read"], "action": "SCMP_ACT_KILL"},
        {"names": ["write"], "action": "SCMP_ACT_KILL_PROCESS"},
        {"names": ["open"], "action": "SCMP_ACT_TRAP"},
        {"names": ["close"], "action": "SCMP_ACT_LOG"},
        {"names": ["stat"], "action": "SCMP_ACT_TRACE", "errnoRet": 3},
        {"names": ["no_such_call"], "action": "SCMP_ACT_KILL"},
        rule("kill", "SCMP_CMP_EQ", wide, 0), rule("dup", "SCMP_CMP_NE", wide, 0),
        rule("fork", "SCMP_CMP_LT", wide, 0), rule("pause", "SCMP_CMP_LE", wide, 0),
        rule("alarm", "SCMP_CMP_GT", wide, 0), rule("link", "SCMP_CMP_GE", wide, 0),
        rule("getpid", "SCMP_CMP_MASKED_EQ", 0xff_0000_00ff, 5 | 7 << 32),
    ]}))
    .unwrap();
    let plain = ["read", "write", "open", "close", "stat"].map(|name| call(&filter, name, 0));
    assert_eq!(plain, [0, 0x8000_0000, 0x0003_0000, 0x7ffc_0000, 0x7ff0_0003]);
    let numbers = [0, wide - 1, wide, wide + 1, u64::MAX, 5, 7 << 32, 6 | 7 << 32, 4 | 8 << 32, 6 | 6 << 32];
    for argument in numbers {
        let hits = ["kill", "dup", "fork", "pause", "alarm", "link", "getpid"]
            .map(|name| call(&filter, name, argument) == 0x0005_0009);
        let masked = argument & 0xff_0000_00ff == 5 | 7 << 32;
        let wanted = [
            argument == wide,
            argument != wide,
            argument < wide,
            argument <= wide,
            argument > wide,
            argument >= wide,
            masked,
        ];
        assert_eq!(hits, wanted, "{argument:#x}");
    }
}

#[test]
fn what_cannot_be_done_is_named() {
    let refused = |value: serde_json::Value| profile(&value).unwrap_err().to_string();
    let notify = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
        {"names": ["read"], "action": "SCMP_ACT_NOTIFY"}]});
    assert_eq!(refused(notify), "the seccomp profile uses SCMP_ACT_NOTIFY, which cannot be done here");
    let index = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["read"],
        "action": "SCMP_ACT_KILL", "args": [{"index": 6, "value": 0, "op": "SCMP_CMP_EQ"}]}]});
    assert!(refused(index).contains("argument 6"));
    let errno = json!({"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 5000});
    assert!(refused(errno).contains("5000"));
    assert!(refused(json!({"defaultAction": "SCMP_ACT_DANCE"})).contains("cannot understand"));
}

#[test]
fn a_profile_is_read_from_its_folder_only() {
    let folder = tempfile::tempdir().unwrap();
    let folders =
        SeccompFolders { profiles: folder.path().join("seccomp"), filters: folder.path().join("filters") };
    fs::create_dir_all(folders.profiles.join("team")).unwrap();
    fs::write(folder.path().join("out.json"), "{}").unwrap();
    let text = json!({"defaultAction": "SCMP_ACT_LOG"}).to_string();
    fs::write(folders.profiles.join("team/log.json"), text).unwrap();
    let at = |path: &str| folders.profile(&SeccompProfile::Localhost(path.into()), &Spec::default());
    assert!(at("team/log.json").unwrap().is_some());
    for outside in ["../out.json", "/out.json", "team/../../out.json", ""] {
        assert!(matches!(at(outside), Err(SeccompError::Outside { .. })), "{outside}");
    }
    assert!(matches!(at("none.json"), Err(SeccompError::Read { .. })));
}
