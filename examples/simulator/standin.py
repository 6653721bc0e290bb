"""The one small script that stands in for every program of a machine: lab, hero_proc, curl, apt-get, dpkg-query
and the components.

It writes its arguments, NUL-terminated (so byte for byte), rings the machine's bell and sources the answer from a
FIFO of its own: one process besides the shell itself. It finds its machine by $HOME, so that the same text serves
as the release that a machine downloads.
"""

STAND_IN = """\
#!/bin/sh
# A stand-in: hands its arguments to the make-believe machine and does what it is told.
call="${HOME%/}/../sim/calls/$$"
printf '%s\\0' "${0##*/}" "$PWD" "$@" >"$call.req" || exit 126
case ${0##*/}:" $*" in
  curl:*" @-"*|curl:*"=@-"*|curl:*" -K -"*|curl:*" --config -"*) cat >"$call.in" ;;
esac
[ -p "$call.rep" ] || mkfifo "$call.rep" || exit 126
echo $$ >"${HOME%/}/../sim/bell"
. "$call.rep"
"""
BARE_PROGRAMS = ("apt-get", "dpkg-query")
"""What a bare image has. curl comes with apt-get, lab with curl, the rest with lab."""
