"""Lists the names of programs in user agents: browsers, apps, and programs without a user."""

from __future__ import annotations

import re

_VERSION = r"[/ _]v?(\d[\w.]*)"


def _patterns(rows: tuple[tuple[str, str], ...]) -> tuple[tuple[re.Pattern[str], str], ...]:
    return tuple((re.compile(pattern), name) for pattern, name in rows)


# Apps that show pages in a web view or on Electron. In each pattern, the first group that matches
# is the app's version.
APPS = _patterns(
    (
        (r"\bFBAN/Messenger.*?FBAV/(\d+)|\bFB_IAB/Orca.*?FBAV/(\d+)", "Messenger"),
        (r"\bFBA[NV]/.*?FBAV/(\d+)|\bFB_IAB/.*?FBAV/(\d+)|\bFBAV/(\d+)", "Facebook"),
        (rf"\bInstagram{_VERSION}", "Instagram"),
        (rf"\bBarcelona{_VERSION}", "Threads"),
        (r"\b(?:KAKAOTALK|KakaoTalk)[/ ](?:(\d+\.[\d.]*)|\d)", "KakaoTalk"),
        (r"\[LinkedInApp\](?:/(\d[\d.]*))?|\bLinkedInApp/(\d[\d.]*)", "LinkedIn"),
        (r"\b(?:trill|musical_ly)_\d+ .*?\bapp_version/(\d+)", "TikTok"),
        (
            r"\b(?:trill|musical_ly)_(\d+\.)|\bTikTok[/ ](\d+)|\b(?:trill|musical_ly|TikTok)[_/]",
            "TikTok",
        ),
        (r"\baweme_(?:lite_)?(\d+\.)|\baweme_", "Douyin"),
        (r"\bSnapchat/(\d[\d.]*)", "Snapchat"),
        (r"\bZalo (?:iOS|android)/", "Zalo"),
        (r"\bAliApp\(DingTalk/(\d[\d.]*)", "DingTalk"),
        (r"\bAliApp\(TB/(\d[\d.]*)", "Taobao"),
        (r"\bAliApp\(TM/(\d[\d.]*)", "Tmall"),
        (r"\bDaumApps/(\d[\d.]*)", "Daum"),
        (r"\bYJApp-(?:IOS|ANDROID) [\w.]+/(\d[\d.]*)", "Yahoo! JAPAN"),
        (r"\(Ecosia ios@(\d[\d.]*)|\(Ecosia ", "Ecosia"),
        (r"\bMicroMessenger/(\d[\d.]*)", "WeChat"),
        (r"(?<!\w)Line/(\d[\d.]*)", "LINE"),
        (r"\[Pinterest/(\d*)", "Pinterest"),
        (r"\bGSA/(\d[\d.]*)", "Google app"),
        (r"\bNAVER\(inapp; ?[^;)]*; ?[^;)]*; ?(\d+)", "NAVER"),
        (r"\bTwitter for (?:iPhone|iPad)(?:/(\d[\d.]*))?|\bTwitterAndroid\b", "X"),
        (r"\bSlack(?:_SSB)?/(\d[\d.]*)", "Slack"),
        (r"\bTeams/(\d[\d.]*)", "Microsoft Teams"),
        (r"\b[dD]iscord/(\d[\d.]*)", "Discord"),
        (r"\bPostman/(\d[\d.]*)", "Postman"),
        (r"\b[iI]nsomnia/(\d[\d.]*)", "Insomnia"),
        (r" Code/(\d[\d.]*)", "Visual Studio Code"),
        (r"\bWhatsApp/(\d[\d.]*)", "WhatsApp"),
        (r"\bTelegram(?:-Android)?/(\d[\d.]*)", "Telegram"),
        (r"\bAlipayClient/(\d[\d.]*)", "Alipay"),
        (r"\bWeibo \(|\bWeibo/(\d[\d.]*)", "Weibo"),
        (r"\bbaiduboxapp/(\d[\d.]*)", "Baidu"),
        (r"\bQQ/(\d[\d.]*)", "QQ"),
        (r"^Reddit/(?:Version )?(\d[\d.]*)", "Reddit"),
        (r"\bMiuiBrowser/(\d[\d.]*)", "Mi Browser"),
        (r"\bValve Steam\b", "Steam"),
    )
)

# The products by which browsers are recognized, and the browsers' names for people. If a user agent
# names several of these products, the first of them in this list counts.
BROWSERS = (
    ("OculusBrowser", "Meta Quest Browser"),
    ("SailfishBrowser", "Sailfish Browser"),
    ("Ddg", "DuckDuckGo"),
    ("DuckDuckGo", "DuckDuckGo"),
    ("Brave", "Brave"),
    ("Vivaldi", "Vivaldi"),
    ("YaBrowser", "Yandex Browser"),
    ("Whale", "Whale"),
    ("OPR", "Opera"),
    ("OPT", "Opera"),
    ("OPiOS", "Opera Mini"),
    ("OPX", "Opera GX"),
    ("EdgiOS", "Edge"),
    ("EdgA", "Edge"),
    ("Edg", "Edge"),
    ("Edge", "Edge"),
    ("SamsungBrowser", "Samsung Internet"),
    ("coc_coc_browser", "C\u1ed1c C\u1ed1c"),
    ("UBrowser", "UC Browser"),
    ("Avast", "Avast Secure Browser"),
    ("AVG", "AVG Secure Browser"),
    ("MetaSr", "Sogou Browser"),
    ("Comodo_Dragon", "Comodo Dragon"),
    ("UCBrowser", "UC Browser"),
    ("HuaweiBrowser", "Huawei Browser"),
    ("VivoBrowser", "Vivo Browser"),
    ("HeyTapBrowser", "HeyTap Browser"),
    ("MQQBrowser", "QQ Browser"),
    ("QQBrowser", "QQ Browser"),
    ("Silk", "Silk"),
    ("Focus", "Firefox Focus"),
    ("Klar", "Firefox Focus"),
    ("CriOS", "Chrome"),
    ("FxiOS", "Firefox"),
    ("Konqueror", "Konqueror"),
    ("Falkon", "Falkon"),
    ("Epiphany", "GNOME Web"),
    ("PaleMoon", "Pale Moon"),
    ("SeaMonkey", "SeaMonkey"),
    ("Thunderbird", "Thunderbird"),
    ("PicoBrowser", "PICO Browser"),
    ("LibreWolf", "LibreWolf"),
    ("Waterfox", "Waterfox"),
)

# Products that name a browser engine, a build or a detail of the device, and so do not identify a
# program.
NO_PROGRAMS = frozenset(
    {
        "Mozilla", "Opera", "AppleWebKit", "WebKit", "KHTML", "Gecko", "Goanna", "Presto",
        "Version", "Mobile", "Safari", "Chrome", "Chromium", "Firefox", "HeadlessChrome",
        "Electron", "QtWebEngine", "JsSdk", "NetType", "Channel", "Language", "Build", "XWEB",
        "WKWebView", "MiniProgramEnv", "MMWEBID", "MMWEBSDK", "WebP", "NebulaSDK",
        "TBS", "SUSE", "Ubuntu", "Fedora", "Debian", "NF", "NX", "NintendoBrowser", "CrKey",
        "KAIOS", "CFNetwork", "Darwin", "Dalvik", "ByteLocale", "Region", "isDarkMode",
        "RevealType", "ZoomWebKit", "ZoomApps", "AppName", "app_version", "AppId", "Config",
        "Viewer", "Trailer", "model",
        "BytedanceWebview", "iPhone", "iPad",
        "iOS", "iPadOS", "macOS", "Android", "Device", "okhttp", "Alamofire", "Dart", "HMSCore",
        "WindowsWechat", "AliApp", "rv", "Web0S", "Windows", "Linux", "WebView", "webview",
        "Hat", "TV", "ArkWeb", "SmartTV", "HbbTV", "OMI", "NAVER", "Mobile Safari UI", "UIWebView",
        "React-Native", "ReactNative", "Cordova", "Capacitor", "Hermes", "Agency", "Family",
    }
)  # fmt: skip

# Programs that control a browser or imitate a browser.
HEADLESS = {
    "HeadlessChrome": "Headless Chrome", "PhantomJS": "PhantomJS", "wkhtmltopdf": "wkhtmltopdf",
    "Chrome-Lighthouse": "Lighthouse", "PingdomTMS": "Pingdom", "SkypeUriPreview": "Skype preview",
    "PowerShell": "PowerShell", "WindowsPowerShell": "PowerShell", "Prerender": "Prerender",
}  # fmt: skip

# Apps that people know by another name than the name of their product.
SHOWN_APPS = {
    "MobileSafari": "Safari", "Safari": "Safari", "MobileMail": "Mail", "AppStore": "App Store",
    "VKAndroidApp": "VK", "BingSapphire": "Bing", "TeamsMobile-iOS": "Microsoft Teams",
    "TeamsMobile-Android": "Microsoft Teams", "Teams": "Microsoft Teams",
    "com.google.GoogleMobile": "Google app", "com.apple.mobilesafari": "Safari",
}  # fmt: skip

# Apps that exist only for Macs, by the names that Apple's network library sends for these apps.
MAC_APPS = frozenset(
    {
        "Safari", "Mail", "Xcode", "Finder", "Terminal", "Transmit", "Tower", "Fork", "Sketch",
        "iTerm2", "Alfred", "Raycast", "BBEdit", "Nova", "CleanMyMac", "CleanMyMac%20X", "Sparkle",
        "Little%20Snitch", "TablePlus", "Sequel%20Ace", "Proxyman", "Paw", "RapidAPI",
        "Final%20Cut%20Pro", "Logic%20Pro", "NetNewsWire", "Arc", "Bartender", "iTunes",
        "softwareupdated", "OmniGraffle",
    }
)  # fmt: skip

# Programs and libraries with which no person signs in, by the name of their product in lower case.
PROGRAMS = {
    "postmanruntime": "Postman", "insomnia": "Insomnia", "node": "Node.js", "node.js": "Node.js",
    "undici": "undici", "node-fetch": "node-fetch", "bun": "Bun", "deno": "Deno",
    "guzzlehttp": "Guzzle", "guzzle": "Guzzle", "python-httpx": "HTTPX", "httpx": "HTTPX",
    "aiohttp": "aiohttp", "python-requests": "Python Requests", "python-urllib": "Python urllib",
    "python-urllib3": "urllib3", "urllib3": "urllib3", "python": "Python", "reqwest": "reqwest",
    "hyper": "hyper", "ureq": "ureq", "dart": "Dart", "unityplayer": "Unity",
    "unitywebrequest": "Unity", "unity": "Unity", "unrealengine": "Unreal Engine", "git": "Git",
    "jgit": "JGit", "git-lfs": "Git LFS", "curl": "curl", "libcurl": "curl",
    "pycurl": "PycURL", "wget": "Wget", "wget2": "Wget", "okhttp": "OkHttp",
    "go-http-client": "Go", "go-resty": "Resty", "java-http-client": "Java", "java": "Java",
    "apache-httpclient": "Apache HttpClient", "jakarta commons-httpclient": "Apache HttpClient",
    "jersey": "Jersey", "ktor": "Ktor", "ktor-client": "Ktor", "ktor client": "Ktor",
    "axios": "axios", "got": "got", "superagent": "SuperAgent", "needle": "Needle",
    "node-superagent": "SuperAgent",
    "ruby": "Ruby", "faraday": "Faraday", "rest-client": "REST Client", "httparty": "HTTParty",
    "libwww-perl": "Perl", "lwp::simple": "Perl", "php": "PHP", "symfony httpclient": "Symfony",
    "k6": "k6", "grafana k6": "Grafana k6", "httpie": "HTTPie", "xh": "xh",
    "bruno-runtime": "Bruno", "artillery": "Artillery", "apachejmeter": "Apache JMeter",
    "apachebench": "ApacheBench", "vegeta": "Vegeta", "locust": "Locust",
    "restsharp": "RestSharp", "flurl": "Flurl", "terraform": "Terraform", "aws-cli": "AWS CLI",
    "boto3": "Boto3", "botocore": "Botocore", "docker": "Docker", "docker-client": "Docker",
    "kubectl": "kubectl", "helm": "Helm", "powershell": "PowerShell",
    "windowspowershell": "PowerShell", "swift": "Swift", "elixir": "Elixir",
    "hackney": "hackney", "mint": "Mint", "erlang": "Erlang", "akka-http": "Akka HTTP",
    "apache-maven": "Apache Maven", "gradle": "Gradle", "pip": "pip", "npm": "npm",
    "yarn": "Yarn", "pnpm": "pnpm", "thunder client": "Thunder Client", "hoppscotch": "Hoppscotch",
    "paw": "Paw", "rapidapi": "RapidAPI", "libsoup": "libsoup", "drogonclient": "Drogon",
    "cpp-httplib": "cpp-httplib", "axum": "axum", "scrapy": "Scrapy", "colly": "Colly",
    "winhttp": "WinHTTP", "php-soap": "PHP SOAP", "microsoft.net": ".NET",
    "cypress": "Cypress", "playwright": "Playwright",
}  # fmt: skip
# Words in the name of a program that show that the program has no user.
LIBRARY_WORDS = re.compile(
    r"http|client|curl|fetch|grpc|sdk\b|cli\b|probe|monitor|health|agent\b|scanner", re.I
)
_GRPC_LANGUAGES = {
    "c": "C", "c++": "C++", "csharp": "C#", "dotnet": ".NET", "go": "Go", "java": "Java",
    "kotlin": "Kotlin", "node": "Node.js", "objc": "Objective-C", "php": "PHP",
    "python": "Python", "ruby": "Ruby", "swift": "Swift", "dart": "Dart", "web": "the web",
    "rust": "Rust",
}  # fmt: skip


def program_name(product: str) -> str | None:
    """Returns the name by which people know a program without a user. Returns None if `product` is
    not the product of a known program without a user.
    """
    name = product.lower()
    if name.startswith("grpc-"):
        language = name.split("-")[1]
        return f"gRPC for {_GRPC_LANGUAGES.get(language, language)}"
    return PROGRAMS.get(name)
