#!/bin/sh
# cosign 2.5.0 cannot name an image in a repository of one character.
#
# `localhost:5000/a` is a valid repository of the OCI distribution specification, and docker-registry, skopeo and oras
# take it. The library under cosign, go-containerregistry, wants two to 255 characters, and cosign says "could not parse
# reference", not why. One character in front of a slash is allowed: `a/b` is three. An image of such a name can be
# pushed and pulled, but neither signed nor verified.
#
# Needs: root, mmdebstrap, and an apt that reaches a mirror of Debian 13. No registry is asked: references by digest.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
mmdebstrap --quiet --variant=apt --mode=root --include=cosign trixie "$folder/root" >"$folder/log" 2>&1 ||
  { tail -n 5 "$folder/log"; exit 1; }
chroot "$folder/root" /usr/bin/dpkg-query -W -f '${Package} ${Version}\n' cosign
digest=sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a
place() { # place REPOSITORY: where cosign keeps its signatures
    chroot "$folder/root" /usr/bin/cosign triangulate "localhost:5000/$1@$digest" 2>&1 | grep -oE 'could not parse reference|localhost:5000/[^:]*:sha256-' | tail -n 1
}
for name in a ab a/b; do echo "$name: $(place $name)"; done
[ "$(place a)" = 'could not parse reference' ]
[ "$(place ab)" = 'localhost:5000/ab:sha256-' ] && [ "$(place a/b)" = 'localhost:5000/a/b:sha256-' ]
