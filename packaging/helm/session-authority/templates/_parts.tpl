{{/* Names and parts that the deployments share. The argument of each template is the root context,
     or a dict with the root context as `root`. */}}

{{- define "session-authority.name" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride -}}
{{- else if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end }}

{{/* The labels by which selectors find pods. They must never change. */}}
{{- define "session-authority.selector" -}}
app.kubernetes.io/name: session-authority
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "session-authority.labels" -}}
{{ include "session-authority.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name (.root.Chart.Version | replace "+" "_") }}
{{- end }}

{{- define "session-authority.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}
{{- end -}}
{{- end -}}
{{- end }}

{{/* Settings as environment variables: `set` has the settings that the chart sets, and `added` has
     the settings from the values. Errors name `path`, the place of `added` in the values.
     `environment` has variables with other names. */}}
{{- define "session-authority.variables" -}}
{{- $own := list "ACCESS_POLICY" "BEARER_LISTEN" "CALLER_TOKENS" "CONFIG" "DRAIN_TIMEOUT"
    "GATEWAY_CONFIG" "HEALTH_LISTEN" "KEYS" "LISTEN" "METRICS_LISTEN" "REDIS_URL" "RELAY_ENDPOINTS"
    "TLS_CERTIFICATE" "TLS_CLIENT_CA" "TLS_KEY" -}}
{{- range $name, $value := .added -}}
{{- if has $name $own -}}
{{- fail (printf "%s.%s: the chart sets it; see docs/kubernetes.md" $.path $name) -}}
{{- end -}}
{{- end -}}
{{- range $name, $value := merge (dict) .set .added }}
- name: SESSION_AUTHORITY_{{ $name }}
  value: {{ (kindIs "string" $value | ternary $value (toJson $value)) | quote }}
{{- end }}
{{- range $name, $value := .environment }}
{{- if hasPrefix "SESSION_AUTHORITY_" $name -}}
{{- fail (printf "environment.%s: is a setting; it belongs to settings" $name) -}}
{{- end }}
- name: {{ $name }}
  value: {{ (kindIs "string" $value | ternary $value (toJson $value)) | quote }}
{{- end }}
{{- end }}

{{/* The security context of a container: it can write no file and gain no privilege. */}}
{{- define "session-authority.locked" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{- define "session-authority.metadata" -}}
labels:
  {{- include "session-authority.labels" . | nindent 2 }}
  {{- with .root.Values.pod.labels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with .root.Values.pod.annotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* The settings of all pods: no privileges, no token of a service account, the time that a pod has
     to end, and on which nodes the pods run. */}}
{{- define "session-authority.pod" -}}
serviceAccountName: {{ include "session-authority.name" .root }}
automountServiceAccountToken: false
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  # Files of Secrets belong to root. This group may read them.
  fsGroup: 65532
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile:
    type: RuntimeDefault
# The time for the pause before the end, for calls under way, and for the last writes.
terminationGracePeriodSeconds: {{ add .pause .root.Values.drainSeconds 10 }}
{{- with .root.Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- with .root.Values.pod }}
{{- with .priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
topologySpreadConstraints:
  {{- range $key := list "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
  - topologyKey: {{ $key }}
    maxSkew: 1
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "session-authority.selector" $ | nindent 8 }}
    matchLabelKeys: [pod-template-hash]
  {{- end }}
{{- end }}

{{/* A volume of a Secret. Only the pod's group may read it. */}}
{{- define "session-authority.secret-volume" -}}
- name: {{ .name }}
  secret:
    secretName: {{ .secret }}
    defaultMode: 0440
{{- end }}

{{- define "session-authority.redis-url" -}}
- name: SESSION_AUTHORITY_REDIS_URL
  valueFrom:
    secretKeyRef:
      name: {{ .Values.secrets.redis }}
      key: url
{{- end }}

{{/* The rules of network policies. */}}
{{- define "session-authority.to-dns" -}}
- ports:
    - {port: 53, protocol: UDP}
    - {port: 53, protocol: TCP}
{{- end }}

{{- define "session-authority.to-redis" -}}
- ports:
    {{- range .Values.networkPolicy.redisPorts }}
    - {port: {{ . }}, protocol: TCP}
    {{- end }}
  {{- with .Values.networkPolicy.redis }}
  to:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}

{{/* An empty `from` would allow all sources. So there is no rule if there is no scraper. */}}
{{- define "session-authority.from-scrapers" -}}
{{- with .Values.networkPolicy.scrapers -}}
- ports:
    - {port: metrics, protocol: TCP}
  from:
    {{- toYaml . | nindent 4 }}
{{- end }}
{{- end }}

{{/* Allows connections to the collector of traces, if the settings name an exporter. */}}
{{- define "session-authority.to-tracing" -}}
{{- if or (hasKey .Values.environment "OTEL_EXPORTER_OTLP_ENDPOINT")
    (hasKey .Values.environment "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") -}}
- ports:
    {{- range .Values.networkPolicy.tracingPorts }}
    - {port: {{ . }}, protocol: TCP}
    {{- end }}
  {{- with .Values.networkPolicy.tracing }}
  to:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}
{{- end }}
