// Seccomp filters as the VMMs have them for their threads: what is not listed there ends the process (SECCOMP_RET_TRAP, whose signal they all take for that).
#pragma once

enum filter { FIRECRACKER_VMM, FIRECRACKER_API, FIRECRACKER_VCPU, CLOUD_HYPERVISOR_VMM, CLOUD_HYPERVISOR_API, CLOUD_HYPERVISOR_VCPU };

void end_by_sigsys(void); // for all threads, before the first filter
void filter_thread(enum filter filter);
