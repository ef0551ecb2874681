#!/bin/sh
# Runs inside the image while it is made: a root shell on the first virtio
# console for the test driver, and nothing that would delay the boot.
set -eu

echo keelvm > /etc/hostname
echo "127.0.0.1 localhost keelvm" > /etc/hosts
echo "LABEL=root / ext4 rw,noatime 0 1" > /etc/fstab
printf 'virtio_console\n' > /etc/modules-load.d/vm.conf

cat > /usr/local/sbin/backdoor <<'SHELL'
#!/bin/bash
# The driver writes one line per command and reads back base64 and a status.
exec < /dev/hvc0 > /dev/hvc0 2> /dev/null
stty -F /dev/hvc0 raw -echo
cd /root
export HOME=/root PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
echo "shell is ready"
exec bash --norc
SHELL
chmod 755 /usr/local/sbin/backdoor

cat > /etc/systemd/system/backdoor.service <<'UNIT'
[Unit]
Description=Root shell of the test driver
ConditionPathExists=/dev/hvc0
After=systemd-modules-load.service

[Service]
ExecStart=/usr/local/sbin/backdoor
KillSignal=SIGHUP

[Install]
WantedBy=multi-user.target
UNIT

systemctl enable backdoor.service
systemctl mask getty@tty1.service serial-getty@hvc0.service serial-getty@ttyS0.service \
    apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer fstrim.timer \
    systemd-timesyncd.service e2scrub_reap.service apparmor.service
mkdir -p /etc/systemd/journald.conf.d
printf '[Journal]\nStorage=volatile\nForwardToConsole=no\n' > /etc/systemd/journald.conf.d/vm.conf
