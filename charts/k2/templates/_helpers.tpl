{{/* Names: the release's name in front, so that a release called k2 has k2-operator, k2-query, k2-platform. */}}
{{- define "k2.operator" -}}{{ printf "%s-operator" .Release.Name | trunc 63 | trimSuffix "-" }}{{- end }}
{{- define "k2.query" -}}{{ printf "%s-query" .Release.Name | trunc 56 | trimSuffix "-" }}{{- end }}
{{- define "k2.platform" -}}{{ printf "%s-platform" .Release.Name | trunc 63 | trimSuffix "-" }}{{- end }}

{{- define "k2.workloadImage" -}}
{{ .Values.images.workload.repository }}:{{ .Values.images.workload.tag | default .Chart.AppVersion }}
{{- end }}
{{- define "k2.operatorImage" -}}
{{ .Values.images.operator.repository }}:{{ .Values.images.operator.tag | default .Chart.AppVersion }}
{{- end }}

{{/* Selector labels are those of k2_operator/spec/labels.py: name k2-<component>, instance the object's name. */}}
{{- define "k2.selector.operator" -}}
app.kubernetes.io/name: k2-operator
app.kubernetes.io/instance: {{ include "k2.operator" . }}
{{- end }}
{{- define "k2.selector.query" -}}
app.kubernetes.io/name: k2-query
app.kubernetes.io/instance: {{ include "k2.query" . }}
{{- end }}
{{- define "k2.common" -}}
app.kubernetes.io/part-of: k2
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}
{{- define "k2.chart" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{/* Namespaces that the operator watches, the release's first. */}}
{{- define "k2.namespaces" -}}
{{- prepend .Values.watchNamespaces .Release.Namespace | uniq | toJson -}}
{{- end }}

{{/* platform.yaml: the values' `platform`, with the images of the chart and the Service's address filled in. */}}
{{- define "k2.platformFile" -}}
{{- $scaling := .Values.platform.autoscaling | default dict -}}
{{- if and (eq ($scaling.kind | default "hpa") "keda") (not ($scaling.prometheus | default dict).url) -}}
{{- fail "platform.autoscaling.prometheus.url: KEDA (kind: keda) asks Prometheus for the sinks' lag; say where it is, or choose kind: hpa" -}}
{{- end -}}
{{- $images := dict "workload" (include "k2.workloadImage" .) "pullPolicy" .Values.images.pullPolicy -}}
{{- $api := dict "url" (printf "http://%s.%s" (include "k2.query" .) .Release.Namespace) -}}
{{- $operator := dict "maxConcurrentRollouts" .Values.operator.maxConcurrentRollouts -}}
{{- $defaults := dict "images" $images "api" $api "operator" $operator -}}
{{- mergeOverwrite $defaults (deepCopy .Values.platform) | toYaml -}}
{{- end }}

{{/*
Variables for Kafka, registry and catalog: the same as k2_operator/build/environment.py makes from platform.yaml.
Takes the context and a role, whose Secret opens Kafka where it has one of its own.
*/}}
{{- define "k2.connections" -}}
{{- $role := last . -}}
{{- with first . -}}
{{- $kafka := .Values.platform.kafka -}}
{{- $registry := .Values.platform.registry -}}
{{- $catalog := .Values.platform.catalog -}}
- name: K2_KAFKA_BOOTSTRAP_SERVERS
  value: {{ $kafka.bootstrapServers | quote }}
- name: K2_KAFKA_SECURITY_PROTOCOL
  value: {{ $kafka.securityProtocol | default "PLAINTEXT" }}
{{- with $kafka.saslMechanism }}
- name: K2_KAFKA_SASL_MECHANISM
  value: {{ . }}
{{- end }}
{{- if get ($kafka.secretNames | default dict) $role | default $kafka.secretName }}
- name: K2_KAFKA_SECRET_DIR
  value: /etc/k2/kafka
{{- end }}
{{- if $kafka.caSecretName }}
- name: K2_KAFKA_CA_FILE
  value: /etc/k2/kafka-ca/ca.crt
{{- end }}
- name: K2_REGISTRY_URL
  value: {{ $registry.url | quote }}
{{- if $registry.secretName }}
- name: K2_REGISTRY_SECRET_DIR
  value: /etc/k2/registry
{{- end }}
- name: K2_CATALOG_NAME
  value: {{ $catalog.name | default "k2" }}
- name: K2_CATALOG_PROPERTIES
  value: {{ $catalog.properties | default dict | toJson | quote }}
{{- if $catalog.secretName }}
- name: K2_CATALOG_SECRET_DIR
  value: /etc/k2/catalog
{{- end }}
{{- $markets := dict -}}
{{- with .Values.platform.exchanges }}{{ $_ := set $markets "exchanges" . }}{{ end -}}
{{- with .Values.platform.calendars }}{{ $_ := set $markets "calendars" . }}{{ end -}}
{{- with $markets }}
- name: K2_EXCHANGES
  value: {{ toJson . | quote }}
{{- end }}
{{- if eq $role "query" }}
{{- with .Values.platform.traces }}
- name: K2_TRACES_ENDPOINT
  value: {{ .endpoint | quote }}
- name: K2_TRACES_RATIO
  value: {{ ternary .ratio 1 (hasKey . "ratio") | toString | quote }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{/* The Secrets that the variables name, in the order of the builder's; each takes the context and a role. They are mounted, all of them: a
     file changes in a running pod when its Secret does, a variable never. */}}
{{- define "k2.connectionMounts" -}}
{{- $role := last . -}}
{{- with (first .).Values.platform -}}
{{- if get (.kafka.secretNames | default dict) $role | default .kafka.secretName }}
- {name: kafka, mountPath: /etc/k2/kafka, readOnly: true}
{{- end }}
{{- if .kafka.caSecretName }}
- {name: kafka-ca, mountPath: /etc/k2/kafka-ca, readOnly: true}
{{- end }}
{{- if .registry.secretName }}
- {name: registry, mountPath: /etc/k2/registry, readOnly: true}
{{- end }}
{{- if .catalog.secretName }}
- {name: catalog, mountPath: /etc/k2/catalog, readOnly: true}
{{- end }}
{{- end }}
{{- end }}

{{- define "k2.connectionVolumes" -}}
{{- $role := last . -}}
{{- with (first .).Values.platform -}}
{{- with get (.kafka.secretNames | default dict) $role | default .kafka.secretName }}
- name: kafka
  secret: {secretName: {{ . }}}
{{- end }}
{{- with .kafka.caSecretName }}
- name: kafka-ca
  secret: {secretName: {{ . }}}
{{- end }}
{{- with .registry.secretName }}
- name: registry
  secret: {secretName: {{ . }}}
{{- end }}
{{- with .catalog.secretName }}
- name: catalog
  secret: {secretName: {{ . }}}
{{- end }}
{{- end }}
{{- end }}

{{/* Pod security "restricted"; the user is the one of the images. */}}
{{- define "k2.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
seccompProfile: {type: RuntimeDefault}
{{- end }}
{{- define "k2.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{- define "k2.placement" -}}
{{- with .nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- end }}

{{- define "k2.apiKeysSecret" -}}
{{ .Values.query.apiKeys.existingSecret | default (printf "%s-api-keys" .Release.Name) }}
{{- end }}
{{/* True when the chart makes the key itself. */}}
{{- define "k2.makesKey" -}}
{{- if and .Values.query.enabled (not .Values.query.apiKeys.existingSecret) (not .Values.query.apiKeys.digests) }}true{{ end }}
{{- end }}
