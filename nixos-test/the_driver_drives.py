# The harness itself: a shell, files, a reboot that keeps the disk, a pulled plug.
machine.start()

with subtest("systemd is PID 1 and cgroups are version 2"):
    assert machine.succeed("cat /proc/1/comm").strip() == "systemd"
    assert machine.succeed("stat -fc %T /sys/fs/cgroup").strip() == "cgroup2fs"

with subtest("exit codes and output come through"):
    assert machine.execute("echo out; echo err >&2; exit 7") == (7, "out\nerr\n")
    machine.fail("false")
    try:
        machine.succeed("true", "false")
        raise AssertionError("a failure went unnoticed")
    except Failure:
        pass

with subtest("files come through"):
    machine.copy_from_host(__file__, "/root/copy/driver.py")
    size = len(open(__file__, "rb").read())
    assert machine.succeed("stat -c '%s %U' /root/copy/driver.py").strip() == f"{size} root"
    machine.write_file("/etc/systemd/system/hello.service", "[Service]\nExecStart=/bin/sleep infinity\n")
    machine.succeed("systemctl daemon-reload; systemctl start hello")
    machine.wait_for_unit("hello.service")

with subtest("what pods need is there"):
    machine.succeed("modprobe -a bridge veth overlay", "git --version")

with subtest("a reboot and a pulled plug keep the disk"):
    boot = machine.succeed("sync; cat /proc/sys/kernel/random/boot_id")
    machine.reboot()
    assert machine.succeed("cat /proc/sys/kernel/random/boot_id") != boot
    machine.succeed("test -e /root/copy/driver.py", "touch /root/second", "sync")
    machine.crash()
    machine.start()
    machine.succeed("test -e /root/second")

with subtest("a machine shuts down"):
    machine.shutdown()
