"""Money: a decimal string with an ISO 4217 code (PROTOCOL §3)."""

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

# Active codes of ISO 4217:2015 list one, without the metals and testing codes. It only grows: a code that goes out of
# use stays, since stored events bear it.
CURRENCIES = frozenset(
    """AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BGN BHD BIF BMD BND BOB BRL BSD BTN BWP BYN BZD CAD CDF CHF
    CLP CNY COP CRC CUP CVE CZK DJF DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GNF GTQ GYD HKD HNL HTG HUF
    IDR ILS INR IQD IRR ISK JMD JOD JPY KES KGS KHR KMF KPW KRW KWD KYD KZT LAK LBP LKR LRD LSL LYD MAD MDL MGA MKD MMK
    MNT MOP MRU MUR MVR MWK MXN MYR MZN NAD NGN NIO NOK NPR NZD OMR PAB PEN PGK PHP PKR PLN PYG QAR RON RSD RUB RWF SAR
    SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT TND TOP TRY TTD TWD TZS UAH UGX USD UYU UZS VED
    VES VND VUV WST XAF XCD XOF XPF YER ZAR ZMW ZWG""".split()  # noqa: SIM905  # read and compared with the standard's list as lines
)


def _known_currency(code: str) -> str:
    if code not in CURRENCIES:
        raise ValueError("not an ISO 4217 currency code in use")
    return code


class Money(BaseModel):
    """An exact amount; never a float, so that no reader can round it."""

    model_config = ConfigDict(frozen=True)

    amount: str = Field(pattern=r"^(0|[1-9][0-9]{0,14})(\.[0-9]{1,4})?$", examples=["1250.00"])
    currency: Annotated[str, AfterValidator(_known_currency)] = Field(pattern=r"^[A-Z]{3}$", examples=["EUR"])
