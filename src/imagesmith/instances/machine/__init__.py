"""The machine kind of instance: a virtual machine on an overlay of its parent's disk.

hardware.py     the command line of QEMU       power_sequence.py   on, off, reset, KVM or emulation
emulator.py     a running QEMU                 guest_session.py    SSH; ssh_wait.py waits for its server
cloud_init.py   user data and its disk         cached_disk.py      backing chain, state in the cache
"""
