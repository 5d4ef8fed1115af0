#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/kvm.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "checks.h"
#include "parts.h"

#define LOAD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define UNLESS_EQUAL(value, skip) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, 0, skip)
#define KILL_IF_EQUAL(value) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, 0, 1), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS)
#define KILL_IF_SET(bits) BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, bits, 0, 1), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS)
#define ALLOW BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)

static void forbid(struct sock_filter *instructions, size_t count)
{
    const struct sock_fprog program = { (unsigned short)count, instructions };
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
        die("PR_SET_NO_NEW_PRIVS");
    if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program))
        die("seccomp");
}

// As VMMs that know their own ioctls have it: the others end the process.
void forbid_by_seccomp(void)
{
    static struct sock_filter instructions[] = {
        LOAD(nr),
        UNLESS_EQUAL(SYS_ioctl, 20),
        LOAD(args[1]),
        KILL_IF_EQUAL(KVM_GET_CLOCK),
        KILL_IF_EQUAL(KVM_SET_CLOCK),
        KILL_IF_EQUAL(KVM_HAS_DEVICE_ATTR),
        KILL_IF_EQUAL(KVM_GET_DEVICE_ATTR),
        KILL_IF_EQUAL(KVM_SET_DEVICE_ATTR),
        KILL_IF_EQUAL(KVM_GET_TSC_KHZ),
        KILL_IF_EQUAL(KVM_SET_TSC_KHZ),
        KILL_IF_EQUAL(KVM_KVMCLOCK_CTRL),
        KILL_IF_EQUAL(KVM_GET_MSRS),
        ALLOW,
        UNLESS_EQUAL(SYS_mmap, 4),
        LOAD(args[2]),
        KILL_IF_SET(PROT_EXEC),
        ALLOW,
        UNLESS_EQUAL(SYS_mprotect, 3),
        LOAD(args[2]),
        KILL_IF_SET(PROT_EXEC),
        ALLOW,
    };
    forbid(instructions, sizeof instructions / sizeof instructions[0]);
}

// As QEMU has it (-sandbox on,obsolete=deny,elevateprivileges=deny,resourcecontrol=deny, which is what libvirt asks for, but for spawn): what is listed ends
// the process, all else is allowed.
void sandbox_by_seccomp(void)
{
    static struct sock_filter instructions[] = {
        LOAD(nr),
        KILL_IF_EQUAL(SYS_reboot),
        KILL_IF_EQUAL(SYS_swapon),
        KILL_IF_EQUAL(SYS_mount),
        KILL_IF_EQUAL(SYS_umount2),
        KILL_IF_EQUAL(SYS_kexec_load),
        KILL_IF_EQUAL(SYS_uselib),
        KILL_IF_EQUAL(SYS_setuid),
        KILL_IF_EQUAL(SYS_setgid),
        KILL_IF_EQUAL(SYS_setresuid),
        KILL_IF_EQUAL(SYS_setgroups),
        KILL_IF_EQUAL(SYS_setpriority),
        KILL_IF_EQUAL(SYS_sched_setparam),
        KILL_IF_EQUAL(SYS_sched_setscheduler),
        KILL_IF_EQUAL(SYS_sched_setaffinity),
        ALLOW,
    };
    forbid(instructions, sizeof instructions / sizeof instructions[0]);
}
