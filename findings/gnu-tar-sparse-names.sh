#!/bin/sh
# GNU tar 1.34 and 1.35: a pax archive with a sparse file holds the id of the process, whatever the options say.
#
# The known recipe for the same bytes every time (--sort, --mtime, --owner, --group, and --pax-option=exthdr.name=...,
# as the name of the pax headers holds the process id) stops to work with -S: the header of each sparse file is named
# GNUSparseFile.PID/NAME, and exthdr.name does not reach it. --sparse-version=0.0 has no such name, and neither has
# --format=gnu. Of one tree, files with holes or not: the result depends on whether a copy kept the holes.
#
# Needs: GNU tar.
set -eu
export LC_ALL=C
tar --version | head -n 1
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
mkdir "$folder/tree"
printf data >"$folder/tree/file" && truncate -s 2M "$folder/tree/file"
sum() { # sum OPTION...: the digest of an archive of the tree
    tar --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner "$@" -cf - -C "$folder/tree" . | sha256sum | cut -c1-16
}
pax='--format=pax --pax-option=exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime'
twice() { one=$(sum "$@"); [ "$one" = "$(sum "$@")" ] && echo "same bytes" || echo "other bytes"; }
echo "pax:                       $(twice $pax)"
echo "pax, sparse:               $(twice $pax -S)"
echo "pax, sparse, version 0.0:  $(twice $pax -S --sparse-version=0.0)"
echo "gnu, sparse:               $(twice --format=gnu -S)"
tar $pax -Scf - -C "$folder/tree" ./file | grep -aoE 'GNUSparseFile\.[0-9]+' | head -n 1
[ "$(twice $pax)" = "same bytes" ] && [ "$(twice $pax -S)" = "other bytes" ]
[ "$(twice $pax -S --sparse-version=0.0)" = "same bytes" ] && [ "$(twice --format=gnu -S)" = "same bytes" ]
