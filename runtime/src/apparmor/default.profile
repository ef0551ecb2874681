# What containers of keel run under that name no AppArmor profile, or RuntimeDefault.
#
# Capabilities, namespaces and seccomp decide what a container may do; this holds where one of
# them fails, or was given away. Nothing is included: the parser's own files differ by host.

profile keel-default flags=(attach_disconnected,mediate_deleted) {
  capability,
  network,
  file,
  unix,
  dbus,

  # Other than by the runtime nothing is mounted.
  deny mount,
  deny pivot_root,
  umount,

  # From the supervisor and the host's own programs, and among containers that share processes.
  signal (receive) peer=unconfined,
  signal (send, receive) peer=keel-default,
  ptrace (readby, tracedby) peer=unconfined,
  ptrace (read, readby, trace, tracedby) peer=keel-default,

  # Of /proc, what is below a process's number may be written, and what belongs to the pod's network.
  deny /proc/* w,
  deny /proc/{acpi,asound,bus,driver,dynamic_debug,fs,irq,pressure,scsi,tty}/** wklx,
  deny /proc/sys/{abi,crypto,debug,dev,fs,kernel,user,vm}/** wklx,
  deny /proc/sysrq-trigger rwklx,
  deny /proc/kcore rwklx,
  deny /proc/kmem rwklx,
  deny /proc/mem rwklx,

  # Of /sys, the container's own cgroups.
  deny /sys/[^f]** wklx,
  deny /sys/f[^s]** wklx,
  deny /sys/fs/[^c]** wklx,
  deny /sys/fs/c[^g]** wklx,
  deny /sys/firmware/** rwklx,
  deny /sys/devices/virtual/powercap/** rwklx,
  deny /sys/kernel/security/** rwklx,
}
