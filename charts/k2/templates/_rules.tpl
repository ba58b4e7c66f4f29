{{/* What the operator may do where it watches. Each rule says for what; tests/charts holds it to what the operator asks for. */}}
{{- define "k2.rules" -}}
# Its own kinds: read, own finalizer and annotations; status apart.
- apiGroups: [k2.dev]
  resources: [marketfeeds, icebergtables]
  verbs: [get, list, watch, patch]
- apiGroups: [k2.dev]
  resources: [marketfeeds/status, icebergtables/status]
  verbs: [patch]
# Owner references that block the owner's deletion.
- apiGroups: [k2.dev]
  resources: [marketfeeds/finalizers, icebergtables/finalizers]
  verbs: [update]
# What it builds: server-side apply (create, patch), removal, and the watch that notices an edit.
- apiGroups: [apps]
  resources: [deployments]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [batch]
  resources: [jobs, cronjobs]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [""]
  resources: [configmaps, services]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [autoscaling]
  resources: [horizontalpodautoscalers]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [get, list, watch, create, patch, delete]
# Events for what changed.
- apiGroups: [""]
  resources: [events]
  verbs: [create]
{{- end }}

{{/* With platform.autoscaling.kind: keda. */}}
{{- define "k2.kedaRules" -}}
- apiGroups: [keda.sh]
  resources: [scaledobjects, triggerauthentications]
  verbs: [get, list, watch, create, patch, delete]
{{- end }}

{{/* Whether the Secrets that platform.yaml names for producers and sinks are there; only those, by name. */}}
{{- define "k2.secretNames" -}}
{{- $names := list -}}
{{- $kafka := .Values.platform.kafka -}}
{{- $roles := $kafka.secretNames | default dict -}}
{{- range list ($roles.producer | default $kafka.secretName) ($roles.sink | default $kafka.secretName) $kafka.caSecretName .Values.platform.registry.secretName .Values.platform.catalog.secretName -}}
{{- if . }}{{ $names = append $names . }}{{ end -}}
{{- end -}}
{{- $names | uniq | toJson -}}
{{- end }}
