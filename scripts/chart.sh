#!/usr/bin/env bash
# Renders the plain manifests of packaging/kubernetes from the chart: scripts/chart.sh [--check]
#
# Each file of packaging/kubernetes/values makes a manifest of the same name. With --check the
# script writes no manifest. Instead it checks three things: helm's strict check finds no fault in
# the chart, the committed manifests equal the rendered manifests, and the manifests are valid for
# three versions of Kubernetes.
set -euo pipefail
cd "$(dirname "$0")/.."
chart=packaging/helm/session-authority manifests=packaging/kubernetes
# The oldest version that the chart supports, one in the middle, and the newest.
versions=(1.30.0 1.33.1 1.37.0)
# Removes the lines about helm: they are wrong in a plain manifest.
plain='/^# Source: |^ *(app\.kubernetes\.io\/managed-by|helm\.sh\/chart): |^ *$/d'
rendered=$(mktemp -d)
trap 'rm -rf "$rendered"' EXIT

for values in "$manifests"/values/*.yaml; do
    name=$(basename "$values")
    {
        echo "# Generated from the chart by make manifests; values/$name says how."
        helm template session-authority "$chart" --namespace session-authority \
            --values "$values" --kube-version "${versions[0]}" 2>"$rendered/said" ||
            { cat "$rendered/said" >&2; exit 1; }
    } | sed --regexp-extended "$plain" >"$rendered/$name"
    if [ $# -eq 0 ]; then
        cp "$rendered/$name" "$manifests/$name"
        continue
    fi
    scripts/quietly.sh helm lint --strict "$chart" --values "$values"
    if ! diff --unified "$manifests/$name" "$rendered/$name"; then
        echo "$manifests/$name is not what the chart makes. Run: make manifests" >&2
        exit 1
    fi
    # The kinds of Prometheus's operator are not part of Kubernetes, so its schemas lack them.
    awk -v RS='---\n' -v ORS='---\n' '!/apiVersion: monitoring\.coreos\.com/' \
        "$rendered/$name" >"$rendered/known.yaml"
    for version in "${versions[@]}"; do
        scripts/quietly.sh kubernetes-validate --strict --quiet \
            --kubernetes-version "$version" "$rendered/known.yaml"
    done
done
