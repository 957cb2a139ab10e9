// Knative's own defaults and checks of Services, Brokers, Triggers and PingSources, as its webhooks run them.
module knative

go 1.25.0

require (
	knative.dev/eventing v0.49.2
	knative.dev/serving v0.49.1
)
