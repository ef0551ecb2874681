/* Tries what a container must not be able to do, each in a process of its own, and says for each
 * which errno it got, or "ok". */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/klog.h>
#include <sys/mount.h>
#include <sys/personality.h>
#include <sys/ptrace.h>
#include <sys/quota.h>
#include <sys/reboot.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/swap.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/time.h>
#include <sys/timex.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static long outsider; /* a process of the host's */

static int opened(const char *path, int flags) { return open(path, flags | O_CLOEXEC); }

/* A node that could be made is no harm as long as it cannot be opened. */
static int disk(const char *path) {
    unlink(path);
    if (mknod(path, S_IFBLK | 0600, makedev(254, 0)) < 0 && errno != EEXIST) return -1;
    return opened(path, O_RDONLY);
}

static int by_handle(void) {
    struct file_handle *handle = calloc(1, sizeof *handle + 128);
    int mount;
    handle->handle_bytes = 128;
    if (name_to_handle_at(AT_FDCWD, "/etc/hosts", handle, &mount, 0) < 0) return -1;
    return open_by_handle_at(opened("/etc", O_RDONLY), handle, O_RDONLY);
}

static int new_process(unsigned long flags) {
    long pid = syscall(SYS_clone, flags | SIGCHLD, 0, 0, 0, 0);
    if (pid == 0) _exit(0);
    return pid < 0 ? -1 : 0;
}

#define TRY(name, what)                                                                    \
    do {                                                                                   \
        fflush(stdout);                                                                    \
        if (fork() == 0) {                                                                 \
            errno = 0;                                                                     \
            long result = (what);                                                          \
            printf("try %s %s\n", name, result < 0 ? strerrorname_np(errno) : "ok");       \
            fflush(stdout);                                                                \
            _exit(0);                                                                      \
        }                                                                                  \
        wait(NULL);                                                                        \
    } while (0)

static char zeros[256];

/* Out of the root by the oldest trick: a folder that is held while the root moves below it. */
static int out_of_chroot(void) {
    struct stat inside, outside;
    mkdir("/tmp/below", 0755);
    if (stat("/", &inside) < 0) return -1;
    int held = opened("/", O_RDONLY | O_DIRECTORY);
    if (chroot("/tmp/below") < 0 || fchdir(held) < 0) return -1;
    for (int i = 0; i < 64; i++) chdir("..");
    if (stat(".", &outside) < 0) return -1;
    errno = EXDEV;
    return inside.st_ino == outside.st_ino && inside.st_dev == outside.st_dev ? -1 : 0;
}

static int written(const char *path, const char *text) {
    int fd = opened(path, O_WRONLY);
    return fd < 0 ? -1 : (int)write(fd, text, strlen(text));
}

static int read_memory(void) {
    struct iovec local = {zeros, 8}, remote = {zeros, 8};
    return (int)process_vm_readv(outsider, &local, 1, &remote, 1, 0);
}

static int higher_limit(void) {
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_max += 1;
    return setrlimit(RLIMIT_NOFILE, &limit);
}

static int real_time(void) {
    struct sched_param first = {.sched_priority = 1};
    return sched_setscheduler(0, SCHED_FIFO, &first);
}

int main(int count, char **words) {
    outsider = count > 1 ? atol(words[1]) : 1;
    struct timeval past = {1, 0};
    struct timespec old = {1, 0};
    TRY("mount", mount("none", "/mnt", "tmpfs", 0, ""));
    TRY("mount-proc", mount("proc", "/mnt", "proc", 0, ""));
    TRY("remount", mount("none", "/proc/sys", "", MS_REMOUNT | MS_BIND, ""));
    TRY("umount", umount2("/proc/kcore", MNT_DETACH));
    TRY("pivot-root", syscall(SYS_pivot_root, "/", "/tmp"));
    TRY("open-tree", syscall(SYS_open_tree, AT_FDCWD, "/", 1));
    TRY("fsopen", syscall(SYS_fsopen, "tmpfs", 0));
    TRY("unshare-user", unshare(CLONE_NEWUSER));
    TRY("unshare-mount", unshare(CLONE_NEWNS));
    TRY("clone-user", new_process(CLONE_NEWUSER));
    TRY("clone-net", new_process(CLONE_NEWNET));
    TRY("clone3", syscall(SYS_clone3, zeros, 64));
    TRY("setns", setns(opened("/proc/self/ns/uts", O_RDONLY), CLONE_NEWUTS));
    TRY("open-disk-in-root", disk("/tmp/disk"));
    TRY("open-disk-in-dev", disk("/dev/disk"));
    TRY("open-disk-in-volume", disk("/data/disk"));
    TRY("ptrace-outside", ptrace(PTRACE_ATTACH, outsider, 0, 0));
    TRY("kill-outside", kill(outsider, 0));
    TRY("open-by-handle", by_handle());
    TRY("load-module", syscall(SYS_init_module, zeros, sizeof zeros, ""));
    TRY("delete-module", syscall(SYS_delete_module, "none", 0));
    TRY("add-key", syscall(SYS_add_key, "user", "name", "x", 1, -2));
    TRY("keyctl", syscall(SYS_keyctl, 0, -3, 1));
    TRY("bpf", syscall(SYS_bpf, 0, zeros, 48));
    TRY("perf", syscall(SYS_perf_event_open, zeros, 0, -1, -1, 0));
    TRY("userfaultfd", syscall(SYS_userfaultfd, 1));
    TRY("io-uring", syscall(SYS_io_uring_setup, 1, zeros));
    TRY("reboot", reboot(RB_DISABLE_CAD));
    TRY("settimeofday", settimeofday(&past, NULL));
    TRY("clock-settime", clock_settime(CLOCK_REALTIME, &old));
    TRY("swapon", swapon("/tmp/swap", 0));
    TRY("kexec", syscall(SYS_kexec_load, 0, 0, 0, 0));
    TRY("acct", acct("/tmp/acct"));
    TRY("iopl", syscall(SYS_iopl, 3));
    TRY("quota", quotactl(QCMD(Q_SYNC, USRQUOTA), NULL, 0, NULL));
    TRY("kernel-log", klogctl(3, zeros, sizeof zeros));
    TRY("hostname", sethostname("other", 5));
    TRY("vsock", socket(AF_VSOCK, SOCK_STREAM, 0));
    TRY("no-randomisation", personality(ADDR_NO_RANDOMIZE));
    TRY("core-pattern", opened("/proc/sys/kernel/core_pattern", O_WRONLY));
    TRY("modprobe", opened("/proc/sys/kernel/modprobe", O_WRONLY));
    TRY("sysrq", opened("/proc/sysrq-trigger", O_WRONLY));
    TRY("uevent-helper", opened("/sys/kernel/uevent_helper", O_WRONLY));
    TRY("sys", opened("/sys/kernel/profiling", O_WRONLY));
    TRY("release-agent", opened("/sys/fs/cgroup/memory/release_agent", O_WRONLY));
    TRY("make-cgroup", mkdir("/sys/fs/cgroup/memory/own", 0755));
    TRY("own-limit", opened("/sys/fs/cgroup/memory/memory.limit_in_bytes", O_WRONLY));
    TRY("mem", opened("/dev/mem", O_RDONLY));
    TRY("kmsg", opened("/dev/kmsg", O_RDONLY));
    TRY("outsiders-root", opened("/proc/self/../../../../proc/1/root/proc/1/../../etc/keel-outside", O_RDONLY));
    TRY("mount-cgroup", mount("none", "/mnt", "cgroup", 0, "none,name=out"));
    TRY("mount-cgroup2", mount("none", "/mnt", "cgroup2", 0, ""));
    TRY("move-mount", syscall(SYS_move_mount, AT_FDCWD, "/proc", AT_FDCWD, "/mnt", 0));
    TRY("mount-setattr", syscall(SYS_mount_setattr, AT_FDCWD, "/proc/sys", 0, zeros, 32));
    TRY("fspick", syscall(SYS_fspick, AT_FDCWD, "/proc/sys", 0));
    TRY("remount-root", mount("none", "/", "", MS_REMOUNT | MS_BIND, ""));
    TRY("out-of-chroot", out_of_chroot());
    TRY("seize-outside", ptrace(PTRACE_SEIZE, outsider, 0, 0));
    TRY("read-outside", read_memory());
    TRY("pidfd-outside", syscall(SYS_pidfd_open, outsider, 0));
    TRY("pidfd-getfd", syscall(SYS_pidfd_getfd, 0, 0, 0));
    TRY("kcmp", syscall(SYS_kcmp, getpid(), getppid(), 0, 0, 0));
    TRY("load-module-file", syscall(SYS_finit_module, opened("/etc/hosts", O_RDONLY), "", 0));
    TRY("kexec-file", syscall(SYS_kexec_file_load, -1, -1, 0, "", 0));
    TRY("fanotify", syscall(SYS_fanotify_init, 0, 0));
    TRY("domain-name", setdomainname("other", 5));
    TRY("vhangup", vhangup());
    TRY("clock-adjust", clock_adjtime(CLOCK_REALTIME, &(struct timex){.modes = ADJ_OFFSET}));
    TRY("real-time", real_time());
    TRY("first-in-line", setpriority(PRIO_PROCESS, 0, -20));
    TRY("higher-limit", higher_limit());
    TRY("spared-by-oom", written("/proc/self/oom_score_adj", "-1000"));
    TRY("map-users", written("/proc/self/uid_map", "0 0 1"));
    TRY("binfmt", opened("/proc/sys/fs/binfmt_misc/register", O_WRONLY));
    TRY("panic", opened("/proc/sys/kernel/panic", O_WRONLY));
    TRY("irq", opened("/proc/irq/default_smp_affinity", O_WRONLY));
    TRY("join-cgroup", opened("/sys/fs/cgroup/memory/cgroup.procs", O_WRONLY));
    TRY("make-unified-cgroup", mkdir("/sys/fs/cgroup/own", 0755));
    TRY("join-unified-cgroup", opened("/sys/fs/cgroup/cgroup.procs", O_WRONLY));
    TRY("own-unified-limit", opened("/sys/fs/cgroup/memory.max", O_WRONLY));
    TRY("notify-on-release", opened("/sys/fs/cgroup/memory/notify_on_release", O_WRONLY));
    TRY("devices-allow", opened("/sys/fs/cgroup/devices/devices.allow", O_WRONLY));
    TRY("port", opened("/dev/port", O_RDWR));
    TRY("fuse", opened("/dev/fuse", O_RDWR));
    puts("tries are over");
    return 0;
}
