# Runs a batch inside the process that owns a VM. Position-independent; touches neither the FPU nor any stack.
# Payload.cs holds what this assembles to, and a test compares the two.
#
# On entry rbx points to the control block; every signal is blocked but one. The batch's steps are armed by STEPS_END, which is STEPS otherwise; the
# holds are released in any case.

    .set FAILED,      0     # out: the index of the step that failed, -1 for none
    .set ERROR,       4     # out: what it returned
    .set STEPS,       8     # the first step
    .set STEPS_END,   16
    .set UNDO,        24    # the first undo step
    .set UNDO_END,    32
    .set UNDO_ERRORS, 40    # out: a byte for each undo step that failed
    .set MEMORY,      48    # the batch's memory
    .set HOLDS,       56    # where the held threads jump to,
    .set RELEASES,    64    # and where they are to jump to after the batch
    .set HOLD_COUNT,  72
    .set PROCESS,     80    # who we are, in our own pid namespace
    .set THREAD,      88
    .set SIGNAL,      96    # ignored where nobody traces us
    .set FRAME,       104   # the signal frame to go home by
    .set NOWHERE,     112   # where results go that nobody wants

    .set STEP_KIND,    0    # ioctl, resolve, expect bits, expect equal, attempt, correct
    .set STEP_FD,      8
    .set STEP_REQUEST, 16
    .set STEP_ARG,     24
    .set STEP_EXPECTED, 32
    .set STEP_RESULT,  40   # where an ioctl's result goes
    .set STEP_FROM,    48   # of an undo step: the first step whose failure needs it
    .set STEP_SIZE,    56

    .text
entry:
    movl    $-1, FAILED(%rbx)
    mov     STEPS(%rbx), %r12
    cmp     STEPS_END(%rbx), %r12
    jae     release

# The way of an ioctl has as few jumps as can be: an emulated CPU pays for each. One jump asks for both, the result and the end.
next:
    mov     STEP_ARG(%r12), %rdx
    mov     STEP_KIND(%r12), %eax
    test    $~4, %eax
    jnz     other
    mov     STEP_FD(%r12), %rdi
    mov     STEP_REQUEST(%r12), %rsi
    mov     $16, %eax                   # ioctl
    syscall
    mov     STEP_RESULT(%r12), %rcx
    mov     %eax, (%rcx)
    add     $STEP_SIZE, %r12
    cmp     STEPS_END(%rbx), %r12
    sbb     %ecx, %ecx                  # all ones if there is another step
    mov     %eax, %edx
    not     %edx                        # negative if the result is not
    test    %ecx, %edx
    js      next
    test    %eax, %eax
    js      refused

release:
    mov     RELEASES(%rbx), %rsi
    mov     HOLDS(%rbx), %rdi
    mov     HOLD_COUNT(%rbx), %rcx
    rep movsq
    mov     STEPS(%rbx), %rax
    mov     %rax, STEPS_END(%rbx)
    mov     PROCESS(%rbx), %rdi
    mov     THREAD(%rbx), %rsi
    mov     SIGNAL(%rbx), %rdx
    mov     $234, %eax                  # tgkill
    syscall
# A tracer takes over here. Without one we go home by the last frame on the stack that we came from, which has all at once: a signal that waits
# is delivered as soon as the mask is back, and there is no room for its handler here.
    mov     FRAME(%rbx), %rsp
    mov     $15, %eax                   # rt_sigreturn
    syscall

did:
    add     $STEP_SIZE, %r12
went:
    cmp     STEPS_END(%rbx), %r12
    jb      next
    jmp     release

refused:
    cmpl    $4, STEP_KIND-STEP_SIZE(%r12) # an attempt may be
    je      went
    sub     $STEP_SIZE, %r12
failed:
    mov     %eax, ERROR(%rbx)
    mov     %r12, %rax
    sub     STEPS(%rbx), %rax
    xor     %edx, %edx
    mov     $STEP_SIZE, %ecx
    div     %rcx
    mov     %rax, %r13                  # the step's index
    mov     %eax, FAILED(%rbx)
    mov     UNDO(%rbx), %r12
    mov     UNDO_ERRORS(%rbx), %r14
next_undo:
    cmp     UNDO_END(%rbx), %r12
    jae     release
    cmp     STEP_FROM(%r12), %r13
    jb      undone
    mov     STEP_FD(%r12), %rdi
    mov     STEP_REQUEST(%r12), %rsi
    mov     STEP_ARG(%r12), %rdx
    mov     $16, %eax                   # ioctl
    syscall
    shr     $31, %eax
    mov     %al, (%r14)
undone:
    add     $STEP_SIZE, %r12
    inc     %r14
    jmp     next_undo

other:
    cmp     $1, %eax
    je      resolve
    cmp     $5, %eax
    je      correct
    mov     STEP_EXPECTED(%r12), %rcx
    cmp     $2, %eax
    mov     (%rdx), %rax
    jne     equal
    and     %ecx, %eax
    cmp     %ecx, %eax
    jmp     compared
equal:
    cmp     (%rcx), %rax
compared:
    je      did
    mov     $0x80000000, %eax
    jmp     failed

# Step 6: SourceGuestTsc + (clock - SourceClock) * kHz / 10^6 - scaled host TSC.
resolve:
    mov     %rdx, %rsi
    mov     MEMORY(%rbx), %r8
    movslq  32(%rsi), %rdi              # ClockSlot
    mov     (%r8,%rdi), %rax            # clock
    sub     8(%rsi), %rax               # SourceClock
    mov     %rax, %r11
    sar     $63, %r11                   # all ones if negative
    xor     %r11, %rax
    sub     %r11, %rax                  # the distance without its sign
    mov     28(%rsi), %ecx              # KHz
    mul     %rcx
    mov     $1000000, %ecx
    mov     %rax, %r9
    mov     %rdx, %rax
    xor     %edx, %edx
    div     %rcx
    mov     %r9, %rax
    div     %rcx
    xor     %r11, %rax
    sub     %r11, %rax                  # the ticks with their sign
    add     (%rsi), %rax                # SourceGuestTsc
    mov     %rax, %r9
    movslq  40(%rsi), %rdi              # TscSlot
    mov     (%r8,%rdi), %rax            # host TSC
    cmpq    $0, 16(%rsi)                # Ratio
    je      unscaled
    mulq    16(%rsi)
    mov     24(%rsi), %ecx              # FractionBits
    shrd    %cl, %rdx, %rax
unscaled:
    sub     %rax, %r9
    movslq  36(%rsi), %rdi              # ResultSlot
    mov     %r9, (%r8,%rdi)
    jmp     did

# By how much the clock was set wrong: SourceClock + ((instant - SourceInstant) * Multiplier >> FractionBits) - clock.
correct:
    mov     %rdx, %rsi
    mov     MEMORY(%rbx), %r8
    movslq  28(%rsi), %rdi              # InstantSlot
    mov     (%r8,%rdi), %rax
    sub     8(%rsi), %rax               # SourceInstant
    mulq    16(%rsi)                    # Multiplier
    mov     24(%rsi), %ecx              # FractionBits
    shrd    %cl, %rdx, %rax
    add     (%rsi), %rax                # SourceClock
    movslq  32(%rsi), %rdi              # ClockSlot
    sub     (%r8,%rdi), %rax
    movslq  36(%rsi), %rdi              # ResultSlot
    add     %rax, (%r8,%rdi)
    jmp     did
