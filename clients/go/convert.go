package sessionauthority

import (
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	pb "github.com/session-authority/session-authority/clients/go/sessionauthorityv1"
)

// timeOf converts a timestamp. It returns the zero time if the timestamp is nil.
func timeOf(stamp *timestamppb.Timestamp) time.Time {
	if stamp == nil {
		return time.Time{}
	}
	return stamp.AsTime()
}

// presented converts a text from an end user's request to UTF-8, so that a protobuf message can
// hold it. A question mark replaces each run of bytes that are not UTF-8. The service decides
// whether the resulting text is valid.
func presented(text string) string { return strings.ToValidUTF8(text, "?") }

func clientMessage(client *ClientInfo) *pb.ClientInfo {
	message := &pb.ClientInfo{
		IpAddress:   presented(client.IPAddress),
		UserAgent:   presented(client.UserAgent),
		DisplayName: presented(client.DisplayName),
		AppVersion:  presented(client.AppVersion),
		ClientHints: hintsMessage(client.Hints),
	}
	if client.Place != nil {
		message.Place = &pb.Place{
			City:        presented(client.Place.City),
			CountryCode: presented(client.Place.CountryCode),
		}
	}
	return message
}

func hintsMessage(hints *ClientHints) *pb.ClientHints {
	if hints == nil {
		return nil
	}
	message := &pb.ClientHints{
		Platform:        presented(hints.Platform),
		PlatformVersion: presented(hints.PlatformVersion),
		Model:           presented(hints.Model),
	}
	for _, brand := range hints.Brands {
		message.Brands = append(message.Brands, &pb.ClientBrand{
			Name: presented(brand.Name), Version: presented(brand.Version),
		})
	}
	if hints.Mobile != nil {
		mobile := *hints.Mobile
		message.Mobile = &mobile
	}
	for _, kind := range hints.FormFactors {
		message.FormFactors = append(message.FormFactors, presented(kind))
	}
	return message
}

func clientOf(message *pb.ClientInfo) ClientInfo {
	client := ClientInfo{
		IPAddress:   message.GetIpAddress(),
		UserAgent:   message.GetUserAgent(),
		DisplayName: message.GetDisplayName(),
		AppVersion:  message.GetAppVersion(),
	}
	if hints := message.GetClientHints(); hints != nil {
		client.Hints = &ClientHints{
			Platform:        hints.GetPlatform(),
			PlatformVersion: hints.GetPlatformVersion(),
			Model:           hints.GetModel(),
			Mobile:          hints.Mobile,
			FormFactors:     hints.GetFormFactors(),
		}
		for _, brand := range hints.GetBrands() {
			client.Hints.Brands = append(client.Hints.Brands,
				ClientBrand{Name: brand.GetName(), Version: brand.GetVersion()})
		}
	}
	if place := message.GetPlace(); place != nil {
		client.Place = &Place{City: place.GetCity(), CountryCode: place.GetCountryCode()}
	}
	return client
}

func deviceOf(message *pb.Device) Device {
	device := Device{
		DeviceID:           message.GetDeviceId(),
		DisplayName:        message.GetDisplayName(),
		OperatingSystem:    message.GetOperatingSystem(),
		Browser:            message.GetBrowser(),
		Model:              message.GetModel(),
		FormFactor:         known[FormFactor](formFactorNames, int32(message.GetFormFactor())),
		LastClient:         clientOf(message.GetLastClient()),
		SessionID:          message.GetSessionId(),
		CreateTime:         timeOf(message.GetCreateTime()),
		SignInTime:         timeOf(message.GetSignInTime()),
		LastSeenTime:       timeOf(message.GetLastSeenTime()),
		ExpireTime:         timeOf(message.GetExpireTime()),
		AbsoluteExpireTime: timeOf(message.GetAbsoluteExpireTime()),
		Current:            message.GetCurrent(),
		SignedIn:           message.GetSignedIn(),
		City:               message.GetCity(),
		CountryCode:        message.GetCountryCode(),
		AuthMethods:        message.GetAuthMethods(),
	}
	if alarm := message.GetLastAlarm(); alarm != nil {
		device.LastAlarm = &DeviceAlarm{
			CreateTime:  timeOf(alarm.GetCreateTime()),
			ReplayCause: known[ReplayCause](replayCauseNames, int32(alarm.GetReplayCause())),
		}
	}
	return device
}

func devicesOf(messages []*pb.Device) []Device {
	devices := make([]Device, len(messages))
	for i, message := range messages {
		devices[i] = deviceOf(message)
	}
	return devices
}

func sessionOf(message *pb.Session) Session {
	return Session{
		UserID:             message.GetUserId(),
		DeviceID:           message.GetDeviceId(),
		SessionID:          message.GetSessionId(),
		Generation:         message.GetGeneration(),
		Claims:             Claims{message.GetClaims()},
		AuthMethods:        slices.Clip(message.GetAuthMethods()),
		SignInTime:         timeOf(message.GetSignInTime()),
		TokenExpireTime:    timeOf(message.GetTokenExpireTime()),
		ExpireTime:         timeOf(message.GetExpireTime()),
		AbsoluteExpireTime: timeOf(message.GetAbsoluteExpireTime()),
	}
}

// validationOf converts the service's answer to a validation. The result is Active only if the
// answer's field active is true, its status is ACTIVE, and it has a session.
func validationOf(message *pb.ValidateSessionResponse) Validation {
	validation := Validation{
		Status:           statusOf(message.GetStatus()),
		DeviceID:         message.GetDeviceId(),
		DeviceIDAssigned: message.GetDeviceIdAssigned(),
		RenewRecommended: message.GetRenewRecommended(),
		RevokedDevices:   int(message.GetRevokedDevices()),
	}
	if message.GetActive() && validation.Status == StatusActive && message.GetSession() != nil {
		validation.Active = true
		validation.Session = sessionOf(message.GetSession())
	}
	return validation
}

// renewalOf converts the service's answer to a renewal. The result has a session only if the answer
// has a session and its status is ACTIVE.
func renewalOf(message *pb.RenewSessionResponse) *Renewal {
	renewal := &Renewal{
		Status:          statusOf(message.GetStatus()),
		Rotated:         message.GetRotated(),
		AccessToken:     message.GetAccessToken(),
		TokenExpireTime: timeOf(message.GetTokenExpireTime()),
		RevokedDevices:  int(message.GetRevokedDevices()),
		Durability:      durabilityOf(message.GetDurability()),
	}
	if renewal.Status == StatusActive && message.GetSession() != nil {
		renewal.Session = sessionOf(message.GetSession())
	}
	return renewal
}

func durabilityOf(durability pb.Durability) Durability {
	return known[Durability](durabilityNames, int32(durability))
}

func stateOf(message *pb.SessionState) SessionState {
	return SessionState{
		Status:             statusOf(message.GetStatus()),
		ExpireTime:         timeOf(message.GetExpireTime()),
		AbsoluteExpireTime: timeOf(message.GetAbsoluteExpireTime()),
	}
}

func eventBatchOf(message *pb.WatchEventsResponse) *EventBatch {
	batch := &EventBatch{
		Events:   make([]Event, len(message.GetEvents())),
		Cursor:   message.GetCursor(),
		ReadTime: timeOf(message.GetReadTime()),
	}
	if message.GetReadUptime() != nil {
		batch.ReadUptime = message.GetReadUptime().AsDuration()
	}
	for i, event := range message.GetEvents() {
		batch.Events[i] = eventOf(event)
	}
	return batch
}

func eventOf(message *pb.Event) Event {
	client := message.GetClient()
	return Event{
		EventID:           message.GetEventId(),
		Type:              known[EventType](eventNames, int32(message.GetType())),
		CreateTime:        timeOf(message.GetCreateTime()),
		UserID:            message.GetUserId(),
		SessionID:         message.GetSessionId(),
		Actor:             message.GetActor(),
		Reason:            message.GetReason(),
		DeviceID:          message.GetDevice().GetDeviceId(),
		DeviceDisplayName: message.GetDevice().GetDisplayName(),
		Client:            clientOf(client.GetInfo()),
		OperatingSystem:   client.GetOperatingSystem(),
		Browser:           client.GetBrowser(),
		Model:             client.GetModel(),
		FormFactor:        known[FormFactor](formFactorNames, int32(client.GetFormFactor())),
		City:              client.GetCity(),
		CountryCode:       client.GetCountryCode(),
		NewDevice:         message.GetNewDevice(),
		FirstDevice:       message.GetFirstDevice(),
		ReplayCause:       known[ReplayCause](replayCauseNames, int32(message.GetReplayCause())),
		ReplayAction:      known[ReplayAction](replayActionNames, int32(message.GetReplayAction())),
		ExceptDeviceID:    message.GetExceptDeviceId(),
		KeyID:             message.GetKeyId(),
	}
}
