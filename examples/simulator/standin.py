"""The one small script that stands in for every program of a machine: lab, hero_proc, curl, apt-get, dpkg-query
and the components.

It takes the first free slot of its machine by writing its arguments there, NUL-terminated (so byte for byte), rings the
machine's bell and sources the answer from the slot's FIFO: one process, the shell itself. It finds its machine by $HOME,
so that the same text serves as the release that a machine downloads.
"""

SLOTS = 64
"""Programs of one machine that may run at once."""
STAND_IN = f"""\
#!/bin/sh
# A stand-in: hands its arguments to the make-believe machine and does what it is told.
sim="${{HOME%/}}/../sim"; slot=0
set -C
until printf '%s\\0' "${{0##*/}}" "$PWD" "$@" >"$sim/calls/$slot.req"; do
  slot=$((slot + 1)); [ "$slot" -lt {SLOTS} ] || exit 126
done 2>/dev/null
set +C
case ${{0##*/}}:" $*" in
  curl:*" @-"*|curl:*"=@-"*|curl:*" -K -"*|curl:*" --config -"*) cat >"$sim/calls/$slot.in" ;;
esac
echo "$slot $$" >"$sim/bell"
. "$sim/calls/$slot.rep"
"""
BARE_PROGRAMS = ("apt-get", "dpkg-query")
"""What a bare image has. curl comes with apt-get, lab with curl, the rest with lab."""
