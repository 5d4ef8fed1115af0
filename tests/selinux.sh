#!/usr/bin/env bash
# Runs a command on an emulated host (kvmlab exec --emulate --append security=selinux --append selinux=1) under a policy as the VMMs of RHEL and Fedora
# have it: their domain, vmm_t, may have no executable memory but that of files (no execmem). The command's own domain may do everything, and enters
# the other by /proc/thread-self/attr/exec. tests/selinux.sh COMMAND...
set -euo pipefail
grep -q kvmlab_host= /proc/cmdline || { echo "selinux.sh: this loads a policy, and is only for emulated hosts" >&2 && exit 2; }
policy=$(mktemp -d)

# The kernel knows its initial identifiers by their order.
identifiers='kernel security unlabeled fs file file_labels init any_socket port netif netmsg node igmp_packet icmp_socket tcp_socket sysctl_modprobe
    sysctl sysctl_fs sysctl_kernel sysctl_net sysctl_net_unix sysctl_vm sysctl_dev kmod policy scmp_packet devnull'
{
    echo 'class process' 'class file' | sed 's/ class/\nclass/'
    for identifier in $identifiers; do echo "sid $identifier"; done
    cat <<'POLICY'
class process { execmem transition dyntransition }
class file { entrypoint }
type kernel_t;
type vmm_t;
role r;
role r types { kernel_t vmm_t };
allow kernel_t { kernel_t vmm_t }:process { execmem transition dyntransition };
allow { kernel_t vmm_t } kernel_t:file entrypoint;
user u roles r;
POLICY
    for identifier in $identifiers; do echo "sid $identifier u:r:kernel_t"; done
} >"$policy/policy.conf"

# What the policy does not know is allowed.
checkpolicy --handle-unknown allow -c 31 -o "$policy/policy" "$policy/policy.conf" >"$policy/log" || { cat "$policy/log" >&2 && exit 2; }
mount -t selinuxfs none /sys/fs/selinux
dd if="$policy/policy" of=/sys/fs/selinux/load bs=1M status=none
echo 1 >/sys/fs/selinux/enforce
exec "$@"
