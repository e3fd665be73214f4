{{/* Labels by which the operator's pods are found; they can never change. */}}
{{- define "rlhf-operator.selector" -}}
app.kubernetes.io/name: rlhf-operator
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end -}}

{{/* Labels of everything that the chart makes. */}}
{{- define "rlhf-operator.labels" -}}
{{ include "rlhf-operator.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version | replace "+" "_" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Labels of trainers' pods, which the operator gives them. */}}
{{- define "rlhf-operator.trainers" -}}
app.kubernetes.io/managed-by: rlhf-operator
{{- end -}}
