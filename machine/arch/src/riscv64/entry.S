# All traps of one hart arrive at its own stub; see entry.rs for the idea.
#
# Offsets from x0 reach the slot of the stub's CPU: t0, t1, context, Local.

    .attribute arch, "rv64gc"

    .macro TRAP_STUB cpu
    .balign 64
    sd      t0, -32*(\cpu+1)(x0)
    csrr    t0, scause
    addi    t0, t0, -8                      # environment call from user mode?
    bnez    t0, 1f
    ld      t0, 16-32*(\cpu+1)(x0)          # the context that runs
    sd      t1, {U_T1}(t0)
    ld      t1, -32*(\cpu+1)(x0)
    sd      t1, {U_T0}(t0)
    sd      tp, {U_TP}(t0)
    ld      tp, 24-32*(\cpu+1)(x0)
    j       user_syscall
1:  sd      t1, 8-32*(\cpu+1)(x0)
    addi    t1, x0, -32*(\cpu+1)
    j       other_trap
    .endm

# Saves what the stub has not: all but t0, t1, tp.
    .macro SAVE_USER base
    sd      ra, 8(\base)
    sd      sp, 16(\base)
    sd      gp, 24(\base)
    sd      t2, 56(\base)
    sd      s0, 64(\base)
    sd      s1, 72(\base)
    sd      a0, 80(\base)
    sd      a1, 88(\base)
    sd      a2, 96(\base)
    sd      a3, 104(\base)
    sd      a4, 112(\base)
    sd      a5, 120(\base)
    sd      a6, 128(\base)
    sd      a7, 136(\base)
    sd      s2, 144(\base)
    sd      s3, 152(\base)
    sd      s4, 160(\base)
    sd      s5, 168(\base)
    sd      s6, 176(\base)
    sd      s7, 184(\base)
    sd      s8, 192(\base)
    sd      s9, 200(\base)
    sd      s10, 208(\base)
    sd      s11, 216(\base)
    sd      t3, 224(\base)
    sd      t4, 232(\base)
    sd      t5, 240(\base)
    sd      t6, 248(\base)
    .endm

    .macro LOAD_KERNEL base
    ld      ra, {U_KERNEL_RA}(\base)
    ld      sp, {U_KERNEL_SP}(\base)
    ld      s0, {U_KERNEL_S0}(\base)
    ld      s1, {U_KERNEL_S1}(\base)
    .endm

    .section .text.trap, "ax"
    .option push
    .option norelax
    .globl  trap_stubs
    .balign 64
trap_stubs:
    .irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
    TRAP_STUB \n
    .endr
    .irp n, 32,33,34,35,36,37,38,39,40,41,42,43,44,45,46,47,48,49,50,51,52,53,54,55,56,57,58,59,60,61,62,63
    TRAP_STUB \n
    .endr

# A system call: t0 is the context. Interrupts stay off in hardware (irq.rs).
    .balign 64
user_syscall:
    SAVE_USER t0
    sd      a0, {U_ORIG_A0}(t0)
    csrr    t1, sepc
    addi    t1, t1, 4
    sd      t1, {U_PC}(t0)
    LOAD_KERNEL t0
    li      a0, 8
    ret

# Everything else: t1 is the slot, t0 and t1 are saved there.
other_trap:
    csrr    t0, sstatus
    andi    t0, t0, {SPP}
    bnez    t0, kernel_trap_entry
    ld      t0, 16(t1)
    sd      tp, {U_TP}(t0)
    ld      tp, 24(t1)
    SAVE_USER t0
    ld      t2, 0(t1)
    sd      t2, {U_T0}(t0)
    ld      t2, 8(t1)
    sd      t2, {U_T1}(t0)
    csrr    t1, sepc
    sd      t1, {U_PC}(t0)
    LOAD_KERNEL t0
    csrr    a0, scause
    csrr    a1, stval
    ret

# To user mode: a0 is the context. Returns from the next trap, a0 = scause, a1 = stval (not for 8).
# The caller has declared all registers but s0, s1, sp, tp, gp clobbered.
    .globl  enter_user
    .balign 64
enter_user:
    sd      ra, {U_KERNEL_RA}(a0)
    sd      sp, {U_KERNEL_SP}(a0)
    sd      s0, {U_KERNEL_S0}(a0)
    sd      s1, {U_KERNEL_S1}(a0)
    lbu     t0, {L_HARD_OFF}(tp)
    bnez    t0, 1f
    csrci   sstatus, {SIE}
1:  li      t0, {LAZY}                  # as the next trap finds it
    sb      t0, {L_HARD_OFF}(tp)
    sb      x0, {L_MASKED}(tp)
    ld      t0, {L_SLOT}(tp)
    ld      t1, {U_PC}(a0)
    sd      a0, 16(t0)
    csrw    sepc, t1
    ld      ra, 8(a0)
    ld      sp, 16(a0)
    ld      gp, 24(a0)
    ld      tp, 32(a0)
    ld      t0, 40(a0)
    ld      t1, 48(a0)
    ld      t2, 56(a0)
    ld      s0, 64(a0)
    ld      s1, 72(a0)
    ld      a1, 88(a0)
    ld      a2, 96(a0)
    ld      a3, 104(a0)
    ld      a4, 112(a0)
    ld      a5, 120(a0)
    ld      a6, 128(a0)
    ld      a7, 136(a0)
    ld      s2, 144(a0)
    ld      s3, 152(a0)
    ld      s4, 160(a0)
    ld      s5, 168(a0)
    ld      s6, 176(a0)
    ld      s7, 184(a0)
    ld      s8, 192(a0)
    ld      s9, 200(a0)
    ld      s10, 208(a0)
    ld      s11, 216(a0)
    ld      t3, 224(a0)
    ld      t4, 232(a0)
    ld      t5, 240(a0)
    ld      t6, 248(a0)
    ld      a0, 80(a0)
    sret

# A trap from kernel mode: t1 is the slot, tp the Local, sp the interrupted stack. The frame's lowest word
# is written first: on a full stack it is that store which faults, and brings us back here.
# The two words at the frame's top look like those of a function's frame, for backtraces.
kernel_trap_entry:
    ld      t0, {L_TRAP_PC}(tp)
    bnez    t0, trap_in_trap
    csrr    t0, sepc
    sd      t0, {L_TRAP_PC}(tp)
    addi    sp, sp, -{F_BYTES}
    sd      ra, 8(sp)
    sd      t0, {F_PC}(sp)
    sd      t2, 56(sp)
    ld      t0, 0(t1)
    ld      t2, 8(t1)
    sd      t0, 40(sp)
    sd      t2, 48(sp)
    sd      x0, {L_TRAP_PC}(tp)
    sd      a0, 80(sp)
    sd      a1, 88(sp)
    sd      a2, 96(sp)
    sd      a3, 104(sp)
    sd      a4, 112(sp)
    sd      a5, 120(sp)
    sd      a6, 128(sp)
    sd      a7, 136(sp)
    sd      t3, 224(sp)
    sd      t4, 232(sp)
    sd      t5, 240(sp)
    sd      t6, 248(sp)
    sd      s0, {F_FP}(sp)
    addi    s0, sp, {F_BYTES}
    mv      a0, sp
    csrr    a1, scause
    bltz    a1, 1f
    # An exception: the rest of the registers, for a report. They are not loaded again.
    csrr    a2, stval
    sd      s0, 16(sp)
    sd      gp, 24(sp)
    sd      tp, 32(sp)
    sd      s1, 72(sp)
    sd      s2, 144(sp)
    sd      s3, 152(sp)
    sd      s4, 160(sp)
    sd      s5, 168(sp)
    sd      s6, 176(sp)
    sd      s7, 184(sp)
    sd      s8, 192(sp)
    sd      s9, 200(sp)
    sd      s10, 208(sp)
    sd      s11, 216(sp)
1:  call    {kernel_trap}
    # Interrupts are off in hardware; a0 is what to set in sstatus.
    csrs    sstatus, a0
    ld      t0, {F_PC}(sp)
    csrw    sepc, t0
    ld      ra, 8(sp)
    ld      t0, 40(sp)
    ld      t1, 48(sp)
    ld      t2, 56(sp)
    ld      s0, {F_FP}(sp)
    ld      a0, 80(sp)
    ld      a1, 88(sp)
    ld      a2, 96(sp)
    ld      a3, 104(sp)
    ld      a4, 112(sp)
    ld      a5, 120(sp)
    ld      a6, 128(sp)
    ld      a7, 136(sp)
    ld      t3, 224(sp)
    ld      t4, 232(sp)
    ld      t5, 240(sp)
    ld      t6, 248(sp)
    addi    sp, sp, {F_BYTES}
    sret

# A fault while a frame was being written: t0 is where the first trap came from. All registers but t0 and
# t1 are as they were then, sp less the frame.
trap_in_trap:
    ld      t1, {L_EMERGENCY}(tp)
    addi    t1, t1, -{F_BYTES}
    sd      t0, {F_PC}(t1)
    addi    t0, sp, {F_BYTES}
    sd      t0, 16(t1)
    sd      s0, {F_FP}(t1)
    sd      ra, 8(t1)
    sd      gp, 24(t1)
    sd      tp, 32(t1)
    sd      x0, 40(t1)
    sd      x0, 48(t1)
    sd      t2, 56(t1)
    sd      s1, 72(t1)
    sd      a0, 80(t1)
    sd      a1, 88(t1)
    sd      a2, 96(t1)
    sd      a3, 104(t1)
    sd      a4, 112(t1)
    sd      a5, 120(t1)
    sd      a6, 128(t1)
    sd      a7, 136(t1)
    sd      s2, 144(t1)
    sd      s3, 152(t1)
    sd      s4, 160(t1)
    sd      s5, 168(t1)
    sd      s6, 176(t1)
    sd      s7, 184(t1)
    sd      s8, 192(t1)
    sd      s9, 200(t1)
    sd      s10, 208(t1)
    sd      s11, 216(t1)
    sd      t3, 224(t1)
    sd      t4, 232(t1)
    sd      t5, 240(t1)
    sd      t6, 248(t1)
    mv      sp, t1
    addi    s0, t1, {F_BYTES}
    sd      x0, {L_TRAP_PC}(tp)
    mv      a0, sp
    csrr    a1, scause
    csrr    a2, stval
    call    {stack_fault}
    unimp
    .option pop
