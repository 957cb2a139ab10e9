{{/* What every object begins with: the release's name, unless told otherwise. 30 characters leave room for a pool's. */}}
{{- define "generator.fullname" -}}
{{- default .Release.Name .Values.fullnameOverride | trunc 30 | trimSuffix "-" -}}
{{- end }}

{{/* Labels that select; they never change. Arguments: root, component. */}}
{{- define "generator.selector" -}}
app.kubernetes.io/name: {{ .root.Chart.Name }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{/* Labels of an object. Arguments: root, component. */}}
{{- define "generator.labels" -}}
{{ include "generator.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/part-of: visionsuit
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- end }}

{{/* An image's reference: the digest wins over the tag. Arguments: root, image. */}}
{{- define "generator.image" -}}
{{- $registry := default .image.registry .root.Values.global.imageRegistry -}}
{{- with $registry }}{{ trimSuffix "/" . }}/{{ end }}{{ .image.repository -}}
{{- if .image.digest }}@{{ .image.digest }}{{ else }}:{{ default .root.Chart.AppVersion .image.tag }}{{ end -}}
{{- end }}

{{- define "generator.imagePullSecrets" -}}
{{- with .Values.global.imagePullSecrets -}}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- end }}

{{/* What the functions are: files/functions.yaml, as a dictionary. */}}
{{- define "generator.functions" -}}
{{- .Files.Get "files/functions.yaml" -}}
{{- end }}

{{/* The components that need a server, as a list in YAML. Arguments: root, need. */}}
{{- define "generator.needing" -}}
{{- $names := list -}}
{{- range $name, $function := include "generator.functions" .root | fromYaml -}}
{{- if has $.need $function.needs }}{{ $names = append $names $name }}{{ end -}}
{{- end -}}
{{- if has .need (list "postgres" "redis" "s3" "broker") -}}
{{- $names = append $names "render" -}}
{{- if .root.Values.operator.enabled }}{{ $names = append $names "operator" }}{{ end -}}
{{- if .root.Values.retention.enabled }}{{ $names = append $names "retention" }}{{ end -}}
{{- end -}}
{{- if has .need (list "postgres" "s3") }}{{ $names = append $names "catalogue" }}{{ end -}}
{{- if eq .need "postgres" }}{{ $names = append $names "migrate" }}{{ end -}}
{{- toYaml (sortAlpha $names) -}}
{{- end }}

{{/* The name of the Secret with the trial's passwords and addresses. */}}
{{- define "generator.trialSecret" -}}
{{ include "generator.fullname" . }}-trial
{{- end }}

{{/* A host name inside the release as all namespaces know it. Arguments: root, name. */}}
{{- define "generator.host" -}}
{{ include "generator.fullname" .root }}-{{ .name }}.{{ .root.Release.Namespace }}.svc.{{ .root.Values.clusterDomain }}
{{- end }}

{{/* The Broker's address: its class decides, unless told. */}}
{{- define "generator.sink" -}}
{{- $path := printf "%s/%s" .Release.Namespace (include "generator.fullname" .) -}}
{{- if .Values.broker.address }}{{ .Values.broker.address }}
{{- else if eq .Values.broker.class "RabbitMQBroker" }}http://{{ include "generator.host" (dict "root" . "name" "broker-ingress") }}
{{- else -}}
http://{{ if eq .Values.broker.class "Kafka" }}kafka-{{ end }}broker-ingress.knative-eventing.svc.{{ .Values.clusterDomain }}/{{ $path }}
{{- end }}
{{- end }}

{{/* One variable from a Secret. Arguments: name, secret, key. */}}
{{- define "generator.secretEnv" -}}
- name: {{ .name }}
  valueFrom:
    secretKeyRef:
      name: {{ .secret }}
      key: {{ .key }}
{{- end }}

{{/* A key in a Secret of one's own, or, in a trial, in the trial's. Arguments: root, own, trial. */}}
{{- define "generator.key" -}}
{{- ternary .trial .own .root.Values.trial.enabled -}}
{{- end }}

{{/* The variables that lead to what a component needs. Arguments: root, component, needs. */}}
{{- define "generator.env" -}}
{{- $v := .root.Values }}
{{- $trial := include "generator.trialSecret" .root }}
{{- if has "postgres" .needs }}
{{- $key := get $v.database.keys .component | default $v.database.key }}
{{ include "generator.secretEnv" (dict "name" "DATABASE_URL" "secret" (default $trial $v.database.existingSecret) "key" (include "generator.key" (dict "root" .root "own" $key "trial" "url"))) }}
{{- end }}
{{- if has "redis" .needs }}
{{ include "generator.secretEnv" (dict "name" "REDIS_URL" "secret" (default $trial $v.redis.existingSecret) "key" (include "generator.key" (dict "root" .root "own" $v.redis.key "trial" "redis-url"))) }}
{{- end }}
{{- if has "s3" .needs }}
{{- $own := ternary $v.s3.render.existingSecret "" (eq .component "render") }}
{{- $secret := coalesce $own $v.s3.existingSecret $trial }}
{{- $endpoint := ternary (printf "http://%s:7070" (include "generator.host" (dict "root" .root "name" "s3"))) $v.s3.endpointUrl $v.trial.enabled }}
{{- with $endpoint }}
- {name: S3_ENDPOINT_URL, value: {{ . | quote }}}
{{- end }}
- {name: S3_REGION, value: {{ $v.s3.region | quote }}}
{{ include "generator.secretEnv" (dict "name" "S3_ACCESS_KEY_ID" "secret" $secret "key" (include "generator.key" (dict "root" .root "own" $v.s3.accessKeyIdKey "trial" "access-key-id"))) }}
{{ include "generator.secretEnv" (dict "name" "S3_SECRET_ACCESS_KEY" "secret" $secret "key" (include "generator.key" (dict "root" .root "own" $v.s3.secretAccessKeyKey "trial" "secret-access-key"))) }}
{{- range $bucket, $name := $v.s3.buckets }}
- {name: {{ upper $bucket }}_BUCKET, value: {{ $name | quote }}}
{{- end }}
{{- end }}
{{- if has "broker" .needs }}
- {name: K_SINK, value: {{ include "generator.sink" .root | quote }}}
{{- end }}
{{- if has "signatures" .needs }}
{{ include "generator.secretEnv" (dict "name" "SERVICE_SECRETS" "secret" (default $trial $v.signing.existingSecret) "key" (include "generator.key" (dict "root" .root "own" $v.signing.key "trial" "service-secrets"))) }}
- {name: TOKEN_ISSUER, value: {{ $v.signing.issuer | quote }}}
{{- end }}
{{- if $v.caBundle.configMap }}
- {name: SSL_CERT_FILE, value: /etc/visionsuit/ca.crt}
- {name: AWS_CA_BUNDLE, value: /etc/visionsuit/ca.crt}
{{- end }}
- {name: POOLS, value: {{ include "generator.poolNames" .root | quote }}}
{{- range $name, $value := $v.settings }}
- {name: {{ $name }}, value: {{ $value | toString | quote }}}
{{- end }}
{{- end }}

{{/* The certificates of caBundle, as a volume and where it is mounted. */}}
{{- define "generator.caVolume" -}}
{{- with .Values.caBundle }}
{{- if .configMap -}}
- name: ca
  configMap: {name: {{ .configMap }}, items: [{key: {{ .key }}, path: ca.crt}]}
{{- end }}
{{- end }}
{{- end }}

{{- define "generator.caMount" -}}
{{- if .Values.caBundle.configMap -}}
- {name: ca, mountPath: /etc/visionsuit, readOnly: true}
{{- end }}
{{- end }}

{{- define "generator.poolNames" -}}
{{- $pools := list }}
{{- range .Values.pools }}
{{- $pool := merge (pick . "vramGiB" "maxReplicas" "paused") $.Values.poolDefaults }}
{{- $tags := .tags | default $.Values.poolDefaults.tags }}
{{- $sized := printf "%s:%v*%v" .name $pool.vramGiB (ternary 0 $pool.maxReplicas $pool.paused) }}
{{- $pools = append $pools (empty $tags | ternary $sized (printf "%s=%s" $sized (join "+" $tags))) }}
{{- end }}
{{- join "," $pools }}
{{- end }}
